// Package pgdial connects to PostgreSQL servers so that one which falls silent is given up.
package pgdial

import (
	"net"
	"time"
)

// silence is after how long a server that says nothing is taken for gone.
const silence = 20 * time.Second

// keptAlive asks the server three times, and then gives the connection up.
func keptAlive(timeout time.Duration) *net.Dialer {
	return &net.Dialer{Timeout: timeout, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: silence / 4, Interval: silence / 4, Count: 3,
	}}
}
