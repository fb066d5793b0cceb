package chaos

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/internal/child"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/system"
)

const (
	// openLimit is how long all parts may take to be there for the first time.
	openLimit = 2 * time.Minute
	// connectTimeout is how long a part that is started while the broker is away waits for it.
	connectTimeout = 2 * time.Minute
	// drainTimeout is what a part that is to end gives the events that it has in hand, and grace when it is killed after all.
	drainTimeout = 20 * time.Second
	grace        = 45 * time.Second
)

// crew is all processes of a shop.
type crew struct {
	binary      string
	environment []string
	logs        string // directory
	logger      *slog.Logger
	grace       time.Duration
	group       *child.Group
	processes   []*process
	tally       *tally

	stopping chan struct{} // closed when all are to end
	cancel   context.CancelFunc
	ended    chan struct{} // closed when all have ended
	err      error         // valid once ended is closed
}

func newCrew(logger *slog.Logger, tally *tally) *crew {
	return &crew{logger: logger, grace: grace, tally: tally, stopping: make(chan struct{}), ended: make(chan struct{})}
}

// startCrew starts a process for each part, and two for some. Abort must be called in the end.
func startCrew(ctx context.Context, r *run, parts []string) (*crew, error) {
	c := newCrew(r.Logger, r.tally)
	c.binary, c.logs = r.Binary, r.logs()
	c.environment = append(r.Environment(r.broker.url()), "EVDEMO_DB="+r.DB, "EVDEMO_CONNECT_TIMEOUT="+connectTimeout.String())
	for _, part := range parts {
		for n := range 2 {
			if n == 0 || doubled(part) {
				c.processes = append(c.processes, newProcess(c, part+"-"+strconv.Itoa(n+1), r.arguments(part)))
			}
		}
	}
	if r.Broken && r.progress.placed.Load() == 0 {
		stray := newProcess(c, "stray", r.strayArguments())
		stray.safe = true
		c.processes = append(c.processes, stray)
	}
	return c, c.start(ctx)
}

// start starts the processes.
func (c *crew) start(ctx context.Context) (err error) {
	if c.group, err = child.NewGroup(ctx); err != nil {
		return err
	}
	ctx, c.cancel = context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range c.processes {
		group.Go(func() error {
			if p.safe && !c.victimsOpen(ctx) {
				return nil
			}
			return p.run(ctx)
		})
	}
	go func() { // abort waits for it
		defer close(c.ended)
		c.err = group.Wait()
	}()
	return nil
}

// arguments are the command line of a part. Some orders are refused, so that there is something to compensate, and some
// attempts fail, half of them when all is done.
func (r *run) arguments(part string) []string {
	const refused, failed = "0.03", "0.02"
	return []string{
		"shop", "run", part, "--saga", string(r.Flow), "--sinks", r.sinks(), "--topic-prefix", r.broker.prefix(),
		"--step-timeout", r.StepTimeout.String(), "--drain-timeout", drainTimeout.String(),
		"--seed", strconv.FormatUint(r.Seed, 10),
		"--refuse", perPart(refused, service.Fraud, service.Payment, service.Inventory, service.Shipping),
		"--fail", perPart(failed, service.Payment, service.Inventory, service.Email, service.Loyalty),
		"-o", "json", "--log-format", "json",
	}
}

func perPart(value string, parts ...string) (flag string) {
	for i, part := range parts {
		if i > 0 {
			flag += ","
		}
		flag += part + "=" + value
	}
	return flag
}

// strayArguments are those of a worker that takes events of a part, says to the broker that they are done, and does nothing.
func (r *run) strayArguments() []string {
	return []string{
		"work", "--queue", r.broker.prefix() + system.Queue(service.Email), "--no-declare", "--accept-raw",
		"--count", strconv.Itoa(max(30, r.Orders/50)), "--concurrency", "8", "-o", "json", "--log-format", "json",
	}
}

// victims are the processes that may be killed.
func (c *crew) victims() []*process {
	return slices.DeleteFunc(slices.Clone(c.processes), func(p *process) bool { return p.safe })
}

// victimsOpen waits until what the parts declare on the broker is there, and tells whether it ever was.
func (c *crew) victimsOpen(ctx context.Context) bool { return awaitOpen(ctx, c, c.victims()) == nil }

// awaitOpen waits until every process works for the first time.
func (c *crew) awaitOpen(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	return awaitOpen(ctx, c, c.processes)
}

func awaitOpen(ctx context.Context, c *crew, processes []*process) error {
	for _, p := range processes {
		select {
		case <-p.open:
		case <-c.ended:
			return c.failure()
		case <-ctx.Done():
			return fmt.Errorf("%w: %s is not ready: %w", ErrStart, p.name, ctx.Err())
		}
	}
	return nil
}

// failure is why a crew has ended by itself.
func (c *crew) failure() error {
	<-c.ended
	if c.err == nil {
		return errors.New("all parts have ended")
	}
	return c.err
}

// end has all processes end in good order, and waits for that.
func (c *crew) end(ctx context.Context) error {
	close(c.stopping)
	select {
	case <-c.ended:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// abort kills what is still there, and waits for that.
func (c *crew) abort() {
	c.cancel()
	<-c.ended
	c.group.Close()
}
