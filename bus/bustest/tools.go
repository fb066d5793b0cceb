package bustest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/evdemo/evdemo/bus"
	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
)

// step is how often a condition is looked at, and settle how long nothing more may come.
const (
	step   = 5 * time.Millisecond
	settle = 300 * time.Millisecond
)

// seen collects what handlers got.
type seen struct {
	mu     sync.Mutex
	events []event.Event
}

func (s *seen) add(d *worker.Delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, d.Event)
}

func (s *seen) handle(_ context.Context, d *worker.Delivery) error {
	s.add(d)
	return nil
}

func (s *seen) ids() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, len(s.events))
	for i, e := range s.events {
		ids[i] = e.ID
	}
	return ids
}

// exactly waits until all ids are there, and a moment longer, and tells what is missing, double or too much.
func (s *seen) exactly(ctx context.Context, who string, want []string) error {
	await(ctx, func() bool { return len(s.ids()) >= len(want) })
	pause(ctx, settle)
	return compare(who, s.ids(), want)
}

func compare(who string, got, want []string) error {
	counts := map[string]int{}
	for _, id := range got {
		counts[id]++
	}
	var missing, extra int
	for _, id := range want {
		if counts[id] == 0 {
			missing++
		}
		counts[id]--
	}
	for _, n := range counts {
		extra += max(n, 0)
	}
	if missing > 0 || extra > 0 {
		return fmt.Errorf("%s: of %d events %d are missing and %d too many", who, len(want), missing, extra)
	}
	return nil
}

// await waits for a condition, at most until ctx ends.
func await(ctx context.Context, condition func() bool) {
	tick := time.NewTicker(step)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// subscriber is one that runs.
type subscriber struct {
	cancel context.CancelFunc
	done   chan error
}

// stop ends it and gives its result.
func (s *subscriber) stop() error {
	s.cancel()
	return <-s.done
}

func (env *Env) work(ctx context.Context, queue string, options bus.Options, handle worker.Handler) (*subscriber, error) {
	return start(ctx, &options, func(ctx context.Context) error { return env.Bus.Work(ctx, queue, options, handle) })
}

func (env *Env) listen(ctx context.Context, options bus.Options, handle worker.Handler) (*subscriber, error) {
	return start(ctx, &options, func(ctx context.Context) error { return env.Bus.Listen(ctx, env.Topic, options, handle) })
}

// start runs a subscriber, and returns once it is ready.
func start(ctx context.Context, options *bus.Options, run func(context.Context) error) (*subscriber, error) {
	ctx, cancel := context.WithCancel(ctx)
	s := &subscriber{cancel: cancel, done: make(chan error, 1)}
	ready := make(chan struct{})
	options.Ready = func() { close(ready) }
	go func() { s.done <- run(ctx) }()
	select {
	case <-ready:
		return s, nil
	case err := <-s.done:
		cancel()
		s.done <- err
		return s, fmt.Errorf("subscriber ended at once: %w", err)
	case <-ctx.Done():
		cancel()
		return s, errors.New("subscriber is not ready")
	}
}

// stopAll ends subscribers and gives the first thing that went wrong.
func stopAll(subscribers ...*subscriber) error {
	var errs []error
	for _, s := range subscribers {
		errs = append(errs, s.stop())
	}
	return errors.Join(errs...)
}

// publish sends n events, the k-th with the data k, and gives their ids.
func (env *Env) publish(ctx context.Context, to publisher.Destination, n int) ([]string, error) {
	ids := make([]string, n)
	for i := range ids {
		e, err := event.New("step", "bustest", i)
		if err != nil {
			return nil, err
		}
		ids[i] = e.ID
		if err := env.Bus.Publish(ctx, publisher.Message{Event: e, To: to}); err != nil {
			return nil, fmt.Errorf("publish: %w", err)
		}
	}
	return ids, nil
}

// deadLetters waits for n dead letters of a queue and gives them, with their history.
func (env *Env) deadLetters(ctx context.Context, queue string, n int) (letters []worker.Delivery, err error) {
	var mu sync.Mutex
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(letters)
	}
	w, err := env.work(ctx, topology.DeadLetterQueue(queue), bus.Options{}, func(_ context.Context, d *worker.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		letters = append(letters, worker.Delivery{Event: d.Event, History: d.History})
		return nil
	})
	if err != nil {
		return nil, err
	}
	await(ctx, func() bool { return count() >= n })
	pause(ctx, settle)
	if err := w.stop(); err != nil {
		return nil, err
	}
	if len(letters) != n {
		return nil, fmt.Errorf("%d dead letters, want %d", len(letters), n)
	}
	return slices.Clone(letters), nil
}
