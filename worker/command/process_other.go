//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package command

import (
	"os"
	"syscall"
	"time"
)

// pipeSize is how much is put into a pipe before its reader is there: nothing, since a write might
// wait.
const pipeSize = 0

func ownGroup() *syscall.SysProcAttr { return nil }

// endGroup ends a process that is being waited for, and tells whether it was still there.
func endGroup(process *os.Process, _ time.Duration) bool { return process.Kill() == nil }

func writeNow(*os.File, []byte) (int, error) { return 0, nil }
