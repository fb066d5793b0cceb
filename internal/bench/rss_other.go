//go:build unix && !linux

package main

// rssUnit is what the system counts resident memory in: bytes here.
const rssUnit = 1
