// Package pglink connects to PostgreSQL servers: what a URL says, how long a silent server is waited for, and where in a
// database a store has its tables.
package pglink

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
