package main

// rssUnit is what the system counts resident memory in: kilobytes here.
const rssUnit = 1024
