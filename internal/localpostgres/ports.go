package localpostgres

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
)

// Free ports are chosen below the range from which operating systems take the local ports of outgoing
// connections (from 32768 on Linux, from 49152 on macOS). From within that range the port could be lost to
// a client's connection while the server is being restarted.
const (
	lowestPort  = 20000
	highestPort = 32000
)

func freePort(ctx context.Context) (int, error) {
	for range 200 {
		if port := lowestPort + rand.IntN(highestPort-lowestPort); isFree(ctx, port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port found between %d and %d", lowestPort, highestPort)
}

// isFree tells whether the port can be listened on.
func isFree(ctx context.Context, port int) bool {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp4", address(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
