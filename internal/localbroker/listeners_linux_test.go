package localbroker

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNodesShareAMachine runs two nodes at once and looks at what they listen on.
func TestNodesShareAMachine(t *testing.T) {
	t.Parallel()
	one, two := start(t, Config{}), start(t, Config{})
	ctx := testContext(t)
	declareQueue(t, one, "only-here")
	require.False(t, hasQueue(t, two, "only-here"))
	for _, node := range []*Node{one, two} {
		out, err := node.Ctl(ctx, "eval", "os:getpid().")
		require.NoError(t, err)
		require.Contains(t, out, fmt.Sprintf("%q", fmt.Sprint(node.PID())), "rabbitmqctl reaches the node itself")
		require.ElementsMatch(t, []string{
			address(node.ports.AMQP), address(node.ports.Management), address(node.ports.Distribution),
		}, listeners(t, node.PID()))
		mapper := fmt.Sprintf("%04X", node.ports.PortMapper)
		require.Contains(t, readFile(t, "/proc/net/tcp"), " 0100007F:"+mapper+" ")
		require.NotContains(t, readFile(t, "/proc/net/tcp"), " 00000000:"+mapper+" ")
		require.NotContains(t, readFile(t, "/proc/net/tcp6"), " "+strings.Repeat("0", 32)+":"+mapper+" ")
	}
}

// listeners returns the addresses that a process listens on.
func listeners(t *testing.T, pid int) []string {
	t.Helper()
	sockets := map[string]bool{}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	require.NoError(t, err)
	for _, file := range files {
		if target, err := os.Readlink(file); err == nil && strings.HasPrefix(target, "socket:[") {
			sockets[strings.Trim(target, "socket:[]")] = true
		}
	}
	var found []string
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		for line := range strings.Lines(readFile(t, table)) {
			fields := strings.Fields(line) // sl, local address, remote address, state, ..., inode
			if len(fields) < 10 || fields[3] != "0A" || !sockets[fields[9]] {
				continue
			}
			var ip uint32
			var port int
			if _, err := fmt.Sscanf(fields[1], "%08X:%04X", &ip, &port); err != nil {
				found = append(found, fields[1]) // not an IPv4 address
				continue
			}
			found = append(found, fmt.Sprintf("%d.%d.%d.%d:%d", ip&0xFF, ip>>8&0xFF, ip>>16&0xFF, ip>>24, port))
		}
	}
	return found
}
