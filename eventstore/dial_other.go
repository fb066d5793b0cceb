//go:build !linux

package eventstore

import (
	"net"
	"time"
)

// dialer finds out within some 20 s that a server does not answer any more.
func dialer(timeout time.Duration) *net.Dialer { return keptAlive(timeout) }
