//go:build !linux

package pglink

import (
	"net"
	"time"
)

// Dialer finds out within some 20 s that a server does not answer any more.
func Dialer(timeout time.Duration) *net.Dialer { return keptAlive(timeout) }
