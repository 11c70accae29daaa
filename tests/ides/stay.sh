# shellcheck shell=bash
# What keeps an IDE's connection up. Its output goes nowhere once the connection is cut, which is what ends it.
while sleep 1; do printf ' '; done
