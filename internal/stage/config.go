package stage

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"time"
)

// ErrLeftBehind is wrapped where not everything that a scenario made on a broker could be removed.
var ErrLeftBehind = errors.New("not removed")

// Config says where and how to play.
type Config struct {
	// Executable is evdemo itself, which is started as child processes.
	Executable string
	// Environment makes the environment of child processes that are to use the broker at a URL.
	Environment func(url string) []string
	// URLs and TLS lead to the broker, where what is made has names of its own. It is not harmed: scenarios that kill a broker
	// start a node of their own.
	URLs []string
	TLS  *tls.Config
	// Memory says that there is no RabbitMQ, and URLs are not used.
	Memory bool
	// ConnectTimeout bounds the wait for the first connection.
	ConnectTimeout time.Duration
	// Seed decides all that is random.
	Seed uint64
	// Screen is where it is said how things go.
	Screen io.Writer
	// Logger receives what the child processes say of trouble, and each fault. Default: nothing is logged.
	Logger *slog.Logger
}
