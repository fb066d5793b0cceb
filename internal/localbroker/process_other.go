//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package localbroker

import (
	"errors"
	"os"
	"syscall"
)

const canRun = false

func ownGroup(bool) *syscall.SysProcAttr { return nil }
func terminate(int) error                { return errors.ErrUnsupported }
func killGroup(int) error                { return errors.ErrUnsupported }
func tryLock(string) (*os.File, error)   { return nil, errors.ErrUnsupported }
func locked(string) bool                 { return false }
