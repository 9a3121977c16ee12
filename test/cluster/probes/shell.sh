#!/bin/sh
# Looks up by a command line tool: `host:NAME`, `ptr:ADDRESS`, `srv:NAME`. Prints `question answer,answer milliseconds`;
# `?` for what the tool cannot ask.
how=$1
shift
dig="dig +short +time=5 +tries=1"
for question in "$@"; do
  name=${question#*:}
  start=$(date +%s%3N)
  case $how-${question%%:*} in
    dig-host) found=$($dig "$name" A | grep -E '^[0-9.]+$') ;;
    dig-ptr) found=$($dig -x "$name") ;;
    dig-srv) found=$($dig "$name" SRV | awk '{print $4 ":" $3}') ;;
    dig_tcp-host) found=$($dig +tcp "$name" A | grep -E '^[0-9.]+$') ;;
    dig_tcp-ptr) found=$($dig +tcp -x "$name") ;;
    dig_tcp-srv) found=$($dig +tcp "$name" SRV | awk '{print $4 ":" $3}') ;;
    getent-host) found=$(getent ahosts "$name" | awk '{print $1}' | sort -u) ;;
    getent-ptr) found=$(getent hosts "$name" | awk '{print $2}') ;;
    busybox-host) found=$(busybox nslookup -type=a "$name" 2>/dev/null | awk '/^Name:/ {seen=1} seen && /^Address/ {print $NF}') ;;
    busybox-ptr) found=$(busybox nslookup "$name" 2>/dev/null | awk '/name = / {print $NF}') ;;
    busybox-srv) found=$(busybox nslookup -type=srv "$name" 2>/dev/null | awk '/service = / {print $NF ":" $(NF-1)}') ;;
    *) found='?' ;;
  esac
  end=$(date +%s%3N)
  # Unquoted: lines become words.
  echo "$question $(echo ${found:--} | tr ' ' ,) $((end - start))"
done
