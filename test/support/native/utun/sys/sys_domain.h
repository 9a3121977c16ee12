#pragma once
#include <sys/kern_control.h>
