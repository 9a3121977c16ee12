#!/bin/sh
# Looks names up by a command line tool. Prints `name address,address` or `name -`.
how=$1
shift
for name in "$@"; do
  case $how in
    dig) found=$(dig +short +time=5 +tries=1 "$name" A | grep -E '^[0-9.]+$') ;;
    dig-tcp) found=$(dig +tcp +short +time=5 +tries=1 "$name" A | grep -E '^[0-9.]+$') ;;
    getent) found=$(getent ahostsv4 "$name" | awk '{print $1}' | sort -u) ;;
    busybox) found=$(busybox nslookup -type=a "$name" 2>/dev/null | awk '/^Name:/ {seen=1} seen && /^Address/ {print $NF}') ;;
  esac
  echo "$name ${found:--}" | tr '\n' ' ' | sed 's/ *$//; s/\([0-9]\) \([0-9]\)/\1,\2/g'
  echo
done
