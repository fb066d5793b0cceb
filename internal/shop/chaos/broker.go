package chaos

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/evdemo/evdemo/internal/localbroker"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/internal/shop/system"
	"github.com/evdemo/evdemo/topology"
)

// brokerLimit bounds what is asked of a broker that should be there.
const brokerLimit = 30 * time.Second

// broker is the RabbitMQ of a proof.
type broker interface {
	url() string
	version() string
	// prefix is what the names of everything there begin with.
	prefix() string
	// crash kills the broker and starts it again after a while. It is there again when crash returns.
	crash(ctx context.Context, away time.Duration) error
	// waiting tells how many events wait in which queues: only those that have some.
	waiting(ctx context.Context, queues topology.Resources) (map[string]int, error)
	// close removes what was made. Of a private node the logs stay, unless the proof holds.
	close(ctx context.Context, holds bool) error
}

func openBroker(ctx context.Context, r *run) (broker, error) {
	if len(r.URLs) > 0 {
		return openShared(ctx, r)
	}
	r.screen.say("Starting a private node of RabbitMQ.")
	node, err := localbroker.Start(ctx, localbroker.Config{Dir: r.node(), Logger: r.Logger})
	if errors.Is(err, localbroker.ErrAlreadyRunning) {
		err = fmt.Errorf("%w: it is another proof's", err)
	}
	if err != nil {
		return nil, err
	}
	return &private{node: node, logger: r.Logger}, nil
}

// private is a node of our own.
type private struct {
	node   *localbroker.Node
	logger *slog.Logger
}

func (b *private) url() string     { return b.node.URL() }
func (b *private) version() string { return "RabbitMQ " + b.node.Version() }
func (b *private) prefix() string  { return "" }

func (b *private) crash(ctx context.Context, away time.Duration) error {
	b.logger.Info("fault", slog.String("kind", string(killBroker)), slog.Duration("lasts", away))
	if err := b.node.Kill(); err != nil { //nolint:contextcheck // it has a limit of its own
		return err
	}
	if !pause(ctx, nil, away) {
		return context.Cause(ctx)
	}
	return b.node.Restart(ctx)
}

func (b *private) waiting(ctx context.Context, queues topology.Resources) (map[string]int, error) {
	return inspect(ctx, session.Config{URLs: []string{b.node.URL()}}, queues)
}

func (b *private) close(_ context.Context, holds bool) error {
	if holds {
		return b.node.Remove() //nolint:contextcheck // it has a limit of its own
	}
	return b.node.Kill() //nolint:contextcheck // so has this
}

// awaitDurable waits until the node can be killed without losing a queue that was declared a moment ago.
func (b *private) awaitDurable(ctx context.Context, queues topology.Resources) error {
	ctx, cancel := context.WithTimeout(ctx, brokerLimit)
	defer cancel()
	names := make([]string, len(queues.Queues))
	for i, queue := range queues.Queues {
		names[i] = queue.Name
	}
	return b.node.AwaitDurable(ctx, names...)
}

// shared is somebody's RabbitMQ, on which we have names of our own.
type shared struct {
	config    session.Config
	urls      string
	name      string
	says      string
	resources topology.Resources
}

func openShared(ctx context.Context, r *run) (*shared, error) {
	b := &shared{config: session.Config{URLs: r.URLs, TLS: r.TLS, Name: "evdemo shop prove"}, name: "prove-" + rand.Text()[:8] + "."}
	b.resources = system.Resources(r.Flow, b.name)
	b.urls = strings.Join(r.URLs, ",")
	s, err := session.DialWithin(ctx, b.config, r.ConnectTimeout)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	b.says = s.ServerVersion()
	r.screen.say("Broker: %s at %s. Everything made there begins with %q and is removed at the end.", b.says, s.Addr(), b.name)
	return b, nil
}

func (b *shared) url() string     { return b.urls }
func (b *shared) version() string { return b.says }
func (b *shared) prefix() string  { return b.name }

func (b *shared) crash(context.Context, time.Duration) error {
	return errors.New("the broker is not ours to kill")
}

func (b *shared) waiting(ctx context.Context, queues topology.Resources) (map[string]int, error) {
	return inspect(ctx, b.config, queues)
}

func (b *shared) close(ctx context.Context, _ bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), brokerLimit)
	defer cancel()
	s, err := session.DialWithin(ctx, b.config, brokerLimit)
	if err == nil {
		defer s.Close()
		err = b.resources.Delete(ctx, s, topology.EvenShared())
	}
	if err != nil {
		return fmt.Errorf("%w: what begins with %q: %w", ErrLeftBehind, b.name, err)
	}
	return nil
}

func inspect(ctx context.Context, config session.Config, queues topology.Resources) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, brokerLimit)
	defer cancel()
	s, err := session.DialWithin(ctx, config, brokerLimit)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	states, err := topology.Resources{Queues: queues.Queues}.Inspect(ctx, s)
	if err != nil {
		return nil, err
	}
	left := map[string]int{}
	for _, state := range states {
		if state.Messages > 0 {
			left[state.Name] = state.Messages
		}
	}
	return left, nil
}
