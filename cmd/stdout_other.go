//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package cmd

import "os"

// nobodyReads cannot be told here.
func nobodyReads(*os.File) bool { return false }
