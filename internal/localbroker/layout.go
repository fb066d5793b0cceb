package localbroker

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// layout is where things are in a node's directory.
type layout struct {
	dir string
	// node is the node's name, after which RabbitMQ names its log.
	node string
}

func (l layout) lock() string       { return filepath.Join(l.dir, "lock") }
func (l layout) record() string     { return filepath.Join(l.dir, "broker.json") }
func (l layout) logDir() string     { return filepath.Join(l.dir, "log") }
func (l layout) log() string        { return filepath.Join(l.logDir(), l.node+".log") }
func (l layout) startupLog() string { return filepath.Join(l.logDir(), "startup.log") }
func (l layout) home() string       { return filepath.Join(l.dir, "home") }
func (l layout) data() string       { return filepath.Join(l.dir, "data") }
func (l layout) conf() string       { return filepath.Join(l.dir, "rabbitmq.conf") }
func (l layout) moreConf() string   { return filepath.Join(l.dir, "conf.d") }
func (l layout) advanced() string   { return filepath.Join(l.dir, "advanced.config") }
func (l layout) envConf() string    { return filepath.Join(l.dir, "rabbitmq-env.conf") }
func (l layout) plugins() string    { return filepath.Join(l.dir, "enabled_plugins") }

// all is everything in the directory that is ours to delete.
func (l layout) all() []string {
	return []string{
		l.record(), l.logDir(), l.home(), l.data(), l.conf(), l.moreConf(), l.advanced(), l.envConf(),
		l.plugins(), l.lock(),
	}
}

// defaultWatermark is the share of the machine's memory at which publishers are blocked, as in
// RabbitMQ 3. It is stated because RabbitMQ 4 has another default.
const defaultWatermark = "0.4"

// config is the rabbitmq.conf of a node. The quorum queues' log is rolled over at an eighth of
// its default size, because queues keep in memory what is in it: a busy node then stays at some
// hundred megabytes.
func (l layout) config(p ports, extra []string) string {
	lines := append([]string{
		"listeners.tcp.default = " + address(p.AMQP),
		"management.tcp.ip = " + loopback,
		"management.tcp.port = " + strconv.Itoa(p.Management),
		"vm_memory_high_watermark.relative = " + defaultWatermark,
		"disk_free_limit.absolute = 50MB",
		"raft.wal_max_size_bytes = 67108864",
		"log.file.rotation.size = 10485760",
		"log.file.rotation.count = 2",
	}, extra...)
	return strings.Join(lines, "\n") + "\n"
}

// write makes the directories and the files that the server reads.
func (l layout) write(p ports, extra []string) error {
	for _, dir := range []string{l.home(), l.data(), l.logDir(), l.moreConf()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	for path, content := range map[string]string{
		l.conf():     l.config(p, extra),
		l.plugins():  "[rabbitmq_management].\n",
		l.advanced(): "[].\n",
		l.envConf():  "",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// environment is that of the server and its tools: ours without what speaks of other nodes.
func (l layout) environment(nodeName string, p ports) []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		other := strings.HasPrefix(name, "RABBITMQ_") || strings.HasPrefix(name, "ERL_") ||
			name == "NOTIFY_SOCKET" || name == "HOME"
		if !other {
			env = append(env, kv)
		}
	}
	distribution := fmt.Sprintf("-kernel inet_dist_use_interface {%s}", strings.ReplaceAll(loopback, ".", ","))
	return append(env,
		// The Erlang cookie, the password among Erlang nodes, is in the home directory.
		"HOME="+l.home(),
		"ERL_EPMD_ADDRESS="+loopback,
		"ERL_EPMD_PORT="+strconv.Itoa(p.PortMapper),
		"ERL_CRASH_DUMP="+filepath.Join(l.logDir(), "erl_crash.dump"),
		"RABBITMQ_NODENAME="+nodeName,
		"RABBITMQ_DIST_PORT="+strconv.Itoa(p.Distribution),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+distribution,
		"RABBITMQ_CTL_ERL_ARGS="+distribution,
		"RABBITMQ_MNESIA_BASE="+l.data(),
		"RABBITMQ_LOG_BASE="+l.logDir(),
		"RABBITMQ_PID_FILE="+filepath.Join(l.data(), "pid"),
		"RABBITMQ_CONFIG_FILE="+l.conf(),
		"RABBITMQ_CONFIG_FILES="+filepath.Join(l.moreConf(), "*.conf"),
		"RABBITMQ_ADVANCED_CONFIG_FILE="+l.advanced(),
		"RABBITMQ_CONF_ENV_FILE="+l.envConf(),
		"RABBITMQ_ENABLED_PLUGINS_FILE="+l.plugins(),
		// Makes the server's script become the Erlang VM instead of waiting for it, so that the
		// child process is the VM: what is killed is the node, and not a shell in front of it.
		"RUNNING_UNDER_SYSTEMD=true",
	)
}
