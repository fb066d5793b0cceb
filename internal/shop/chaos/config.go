package chaos

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop/check"
	"github.com/evdemo/evdemo/internal/shop/service"
)

// Defaults and limits of [Config].
const (
	DefaultOrders      = 1000
	DefaultStepTimeout = 30 * time.Second
	MostOrders         = 1_000_000
	MostKills          = 10_000
)

const (
	// longestAhead is Ahead where nobody says it, and there are many orders.
	longestAhead = 1000
	// recovery is how long a shop may stand still after a fault, besides the time-out of a step: a broker that was killed is
	// up again by then, and a lease of a frozen process has run out.
	recovery = 90 * time.Second
)

// Config says what to prove. Its zero value is a proof without faults.
type Config struct {
	// Binary is evdemo, which is started as child processes. Default: os.Executable.
	Binary string
	// Environment makes the environment of child processes that are to use the broker at a URL. Default: this process's own
	// without the flags of evdemo in it, and with EVDEMO_URL.
	Environment func(url string) []string
	// Dir is the directory for the event store, the sinks, a node of RabbitMQ, and what the parts log; it is made where it
	// does not exist. Default: a temporary one, which is removed unless something is wrong.
	Dir string
	// DB is the event store: the path of an SQLite file, or the URL of a PostgreSQL database. It must have no events.
	// Default: shop.db in Dir.
	DB string
	// URLs and TLS lead to the broker to run on, where what is made has names of its own and is removed. That broker is not
	// killed. Default: a private node of RabbitMQ, as of package localbroker.
	URLs []string
	TLS  *tls.Config
	// ConnectTimeout bounds the wait for the first connection to the broker at URLs. Default 10 s.
	ConnectTimeout time.Duration

	// Flow is service.Choreography unless it is set.
	Flow service.Flow
	// Orders is how many orders are placed. Default 1,000.
	Orders int
	// Ahead is how many orders may be under way: then customers wait until one has ended. Default: a fifth of Orders, 1,000 at
	// most. It is what makes the faults meet a busy shop from its first order to its last.
	Ahead int
	// Seed decides what is ordered, which orders are refused, which attempts fail, and the faults.
	Seed uint64
	// Kills is how often a part is killed with SIGKILL, and started again after up to 2 s. Besides, for every ten of them one
	// part is frozen for 2 to 5 s, and one is ended with SIGTERM; and where there are any, all are killed together once.
	// RabbitMQ gives up an event that was in the hands of more than 20 workers that were killed, which is found: so many kills
	// for few orders are too many.
	Kills int
	// BrokerKills is how often the private node is killed with SIGKILL, and started again after up to 2 s.
	BrokerKills int
	// StepTimeout is that of the coordinator. Default 30 s.
	StepTimeout time.Duration
	// Broken adds a worker that takes events and loses them, which must be found.
	Broken bool

	// Check reads the event store, and the sinks in a directory, and tells what is wrong. Default: check.Log.
	Check func(ctx context.Context, store *eventstore.Store, sinks string, found func(check.Finding)) (check.Report, error)
	// Screen is where it is said how things go; Live draws them there again and again, as on a terminal. Default: nowhere.
	Screen io.Writer
	Live   bool
	// Logger receives each fault, and what the parts say of trouble. Default: nothing is logged.
	Logger *slog.Logger
}

// check reports all mistakes together.
func (c *Config) check() error {
	var errs []error
	for _, number := range []struct {
		name  string
		value int
		most  int
	}{{"Orders", c.Orders, MostOrders}, {"Ahead", c.Ahead, MostOrders}, {"Kills", c.Kills, MostKills}, {"BrokerKills", c.BrokerKills, MostKills}} {
		if number.value < 0 || number.value > number.most {
			errs = append(errs, fmt.Errorf("%s %d: want 0 to %d", number.name, number.value, number.most))
		}
	}
	if c.Flow != "" && c.Flow != service.Choreography && c.Flow != service.Orchestration {
		errs = append(errs, fmt.Errorf("%s %q: want %s or %s", "Flow", c.Flow, service.Choreography, service.Orchestration))
	}
	if c.StepTimeout < 0 {
		errs = append(errs, fmt.Errorf("%s %v: want 0 or more", "StepTimeout", c.StepTimeout))
	}
	if len(c.URLs) > 0 && c.BrokerKills > 0 {
		errs = append(errs, errors.New("BrokerKills is for a private node: the broker at URLs is not ours to kill"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("chaos config: %w", err)
	}
	return nil
}

// withDefaults checks the config and fills in its defaults.
func (r *run) withDefaults() (err error) {
	c := &r.Config
	if err := c.check(); err != nil {
		return err
	}
	if c.Binary == "" {
		if c.Binary, err = os.Executable(); err != nil {
			return fmt.Errorf("find evdemo itself: %w", err)
		}
	}
	if c.Environment == nil {
		c.Environment = plainEnvironment
	}
	c.Flow = cmp.Or(c.Flow, service.Choreography)
	c.Orders = cmp.Or(c.Orders, DefaultOrders)
	c.Ahead = cmp.Or(c.Ahead, min(longestAhead, c.Orders/5+1))
	c.StepTimeout = cmp.Or(c.StepTimeout, DefaultStepTimeout)
	c.ConnectTimeout = cmp.Or(c.ConnectTimeout, 10*time.Second)
	if c.Check == nil {
		c.Check = checkLog
	}
	if c.Screen == nil {
		c.Screen, c.Live = io.Discard, false
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	r.screen = &screen{out: c.Screen, live: c.Live}
	return nil
}

func checkLog(ctx context.Context, store *eventstore.Store, _ string, found func(check.Finding)) (check.Report, error) {
	return check.Log(ctx, store, found)
}

// plainEnvironment is this process's own, without the flags that it was given through it.
func plainEnvironment(url string) []string {
	var env []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "EVDEMO_") {
			env = append(env, variable)
		}
	}
	return append(env, "EVDEMO_URL="+url)
}

// placeFiles says where in Dir things are.
func (r *run) placeFiles() (err error) {
	if r.Dir, err = filepath.Abs(r.Dir); err != nil {
		return err
	}
	r.DB = cmp.Or(r.DB, filepath.Join(r.Dir, "shop.db"))
	return nil
}

func (r *run) sinks() string { return filepath.Join(r.Dir, "sinks") }
func (r *run) logs() string  { return filepath.Join(r.Dir, "logs") }
func (r *run) node() string  { return filepath.Join(r.Dir, "broker") }
