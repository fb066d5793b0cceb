package bustest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evdemo/evdemo/bus"
	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/worker"
)

var (
	errOnPurpose = errors.New("on purpose")
	errNothing   = errors.New("no error")
)

// Checks are all checks, in no order that matters.
func Checks() []Check {
	return []Check{
		{"everybody gets every event", fanOut},
		{"workers compete", compete},
		{"nothing is missed while nobody is there", durable},
		{"a queue keeps its order", order},
		{"an event comes as it was published", exact},
		{"a failed event comes again", retry},
		{"RetryAfter is honoured", retryAfter},
		{"what is given up is a dead letter with its reason", deadLetter},
		{"a requeued event comes again and is no failure", requeue},
		{"skipped and duplicate events are done", skip},
		{"nobody is held up by others", isolation},
		{"what is in hand at the end is finished", drain},
		{"a handler that does not end gives its event back", drainTimeout},
		{"a listener can begin in the past", history},
		{"what nobody wants is returned", returned},
		{"what is no event is refused", invalid},
		{"many publishers at once", publishers},
	}
}

func fanOut(ctx context.Context, env *Env) error {
	const n = 200
	var got [5]seen
	var running []*subscriber
	for i, start := range []func() (*subscriber, error){
		func() (*subscriber, error) { return env.listen(ctx, bus.Options{}, got[0].handle) },
		func() (*subscriber, error) { return env.listen(ctx, bus.Options{}, got[1].handle) },
		func() (*subscriber, error) { return env.listen(ctx, bus.Options{Group: "email"}, got[2].handle) },
		func() (*subscriber, error) { return env.listen(ctx, bus.Options{Group: "analytics"}, got[3].handle) },
		func() (*subscriber, error) { return env.work(ctx, env.Fed, bus.Options{}, got[4].handle) },
	} {
		s, err := start()
		if err != nil {
			return fmt.Errorf("subscriber %d: %w", i, err)
		}
		running = append(running, s)
	}
	ids, err := env.publish(ctx, publisher.ToTopic(env.Topic), n)
	for i := range got {
		err = errors.Join(err, got[i].exactly(ctx, fmt.Sprint("subscriber ", i), ids))
	}
	return errors.Join(err, stopAll(running...))
}

func compete(ctx context.Context, env *Env) error {
	const n = 300
	var got [3]seen
	var running []*subscriber
	for i := range got {
		w, err := env.work(ctx, env.Jobs, bus.Options{}, func(ctx context.Context, d *worker.Delivery) error {
			pause(ctx, time.Millisecond) // so that one alone is too slow
			return got[i].handle(ctx, d)
		})
		if err != nil {
			return err
		}
		running = append(running, w)
	}
	ids, err := env.publish(ctx, publisher.ToQueue(env.Jobs), n)
	if err != nil {
		return err
	}
	all := func() (all []string) {
		for i := range got {
			all = append(all, got[i].ids()...)
		}
		return all
	}
	await(ctx, func() bool { return len(all()) >= n })
	pause(ctx, settle)
	err = compare("all workers", all(), ids)
	for i := range got {
		if len(got[i].ids()) == 0 {
			err = errors.Join(err, fmt.Errorf("worker %d got nothing", i))
		}
	}
	return errors.Join(err, stopAll(running...))
}

func durable(ctx context.Context, env *Env) error {
	const n = 50
	fanned, err := env.publish(ctx, publisher.ToTopic(env.Topic), n)
	if err != nil {
		return err
	}
	direct, err := env.publish(ctx, publisher.ToQueue(env.Jobs), n)
	if err != nil {
		return err
	}
	var group, jobs seen
	g, err := env.listen(ctx, bus.Options{Group: "email"}, group.handle)
	if err != nil {
		return err
	}
	w, err := env.work(ctx, env.Jobs, bus.Options{}, jobs.handle)
	if err != nil {
		return err
	}
	return errors.Join(group.exactly(ctx, "the group", fanned), jobs.exactly(ctx, "the worker", direct), stopAll(g, w))
}

func order(ctx context.Context, env *Env) error {
	ids, err := env.publish(ctx, publisher.ToQueue(env.Jobs), 200)
	if err != nil {
		return err
	}
	var got seen
	w, err := env.work(ctx, env.Jobs, bus.Options{}, got.handle)
	if err != nil {
		return err
	}
	await(ctx, func() bool { return len(got.ids()) >= len(ids) })
	if !slices.Equal(ids, got.ids()) {
		err = errors.New("events came in another order")
	}
	return errors.Join(err, w.stop())
}

func exact(ctx context.Context, env *Env) error {
	e, err := event.New("step", "bustest", []byte(`{"a": 1.0, "a": "ä"}`))
	if err != nil {
		return err
	}
	e.Subject = "subject 1"
	e = e.WithExtension(event.ExtCorrelationID, "c").WithExtension("number", 7).WithExtension("flag", true)
	headers := map[string]any{"tenant": "acme", "n": int32(7)}
	got := make(chan worker.Delivery, 1)
	w, err := env.work(ctx, env.Jobs, bus.Options{}, func(_ context.Context, d *worker.Delivery) error {
		got <- worker.Delivery{Event: d.Event, Headers: d.Headers, Queue: d.Queue, RoutingKey: d.RoutingKey, Attempt: d.Attempt, History: d.History}
		return nil
	})
	if err != nil {
		return err
	}
	if err := env.Bus.Publish(ctx, publisher.Message{Event: e, To: publisher.ToQueue(env.Jobs), Headers: headers}); err != nil {
		return err
	}
	want := worker.Delivery{Event: e, Headers: headers, Queue: env.Jobs, RoutingKey: env.Jobs, Attempt: 1}
	select {
	case d := <-got:
		if !reflect.DeepEqual(want, d) {
			err = fmt.Errorf("it came as %+v, want %+v", d, want)
		}
	case <-ctx.Done():
		err = errors.New("it did not come")
	}
	return errors.Join(err, w.stop())
}

func retry(ctx context.Context, env *Env) error {
	var attempts []int
	var failures []int
	done := make(chan struct{})
	w, err := env.work(ctx, env.Jobs, bus.Options{}, func(_ context.Context, d *worker.Delivery) error {
		attempts = append(attempts, d.Attempt)
		if d.History != nil {
			failures = append(failures, d.History.Attempts)
		}
		if d.Attempt < maxAttempts {
			return errOnPurpose
		}
		close(done)
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := env.publish(ctx, publisher.ToQueue(env.Jobs), 1); err != nil {
		return err
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
	if err := w.stop(); err != nil {
		return err
	}
	if !slices.Equal(attempts, []int{1, 2, 3}) || !slices.Equal(failures, []int{1, 2}) {
		return fmt.Errorf("attempts %v with %v failures behind them", attempts, failures)
	}
	return nil
}

func retryAfter(ctx context.Context, env *Env) error {
	const wait = 400 * time.Millisecond
	times := make(chan time.Time, 2)
	w, err := env.work(ctx, env.Jobs, bus.Options{}, func(_ context.Context, d *worker.Delivery) error {
		times <- time.Now()
		if d.Attempt == 1 {
			return worker.RetryAfter(wait, errOnPurpose)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := env.publish(ctx, publisher.ToQueue(env.Jobs), 1); err != nil {
		return err
	}
	await(ctx, func() bool { return len(times) == 2 })
	if err := w.stop(); err != nil {
		return err
	}
	if len(times) < 2 {
		return errors.New("it did not come again")
	}
	if waited := -(<-times).Sub(<-times); waited < wait {
		return fmt.Errorf("it came again after %v, and was to wait %v", waited, wait)
	}
	return nil
}

func deadLetter(ctx context.Context, env *Env) error {
	kinds := []string{"permanent", "attempts", "panic"}
	var ids []string
	w, err := env.work(ctx, env.Jobs, bus.Options{Concurrency: 3}, func(_ context.Context, d *worker.Delivery) error {
		switch string(d.Event.Data) {
		case "0":
			return worker.Permanent(errOnPurpose)
		case "1":
			return errOnPurpose
		default:
			panic("on purpose")
		}
	})
	if err != nil {
		return err
	}
	if ids, err = env.publish(ctx, publisher.ToQueue(env.Jobs), len(kinds)); err != nil {
		return err
	}
	letters, err := env.deadLetters(ctx, env.Jobs, len(kinds))
	if err != nil {
		return errors.Join(err, w.stop())
	}
	for _, letter := range letters {
		i := slices.Index(ids, letter.Event.ID)
		switch {
		case i < 0:
			err = errors.Join(err, errors.New("a dead letter that nobody has published"))
		case letter.History == nil:
			err = errors.Join(err, fmt.Errorf("%s: no history", kinds[i]))
		case string(letter.History.Reason) != kinds[i], letter.History.Queue != env.Jobs, i > 0 && letter.History.Attempts != maxAttempts,
			!strings.Contains(letter.History.Error, "on purpose"):
			err = errors.Join(err, fmt.Errorf("%s: the history is %+v", kinds[i], *letter.History))
		}
	}
	return errors.Join(err, w.stop())
}

func requeue(ctx context.Context, env *Env) error {
	var deliveries, attempts []string
	var mu sync.Mutex
	w, err := env.work(ctx, env.Jobs, bus.Options{}, func(_ context.Context, d *worker.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		deliveries = append(deliveries, fmt.Sprint(d.Redelivered))
		attempts = append(attempts, fmt.Sprint(d.Attempt))
		if len(deliveries) == 1 {
			return worker.ErrRequeue
		}
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := env.publish(ctx, publisher.ToQueue(env.Jobs), 1); err != nil {
		return err
	}
	await(ctx, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(deliveries) >= 2
	})
	if err := w.stop(); err != nil {
		return err
	}
	if !slices.Equal(deliveries, []string{"false", "true"}) || !slices.Equal(attempts, []string{"1", "1"}) {
		return fmt.Errorf("redelivered %v, attempts %v", deliveries, attempts)
	}
	return nil
}

func skip(ctx context.Context, env *Env) error {
	var got seen
	w, err := env.work(ctx, env.Jobs, bus.Options{}, func(_ context.Context, d *worker.Delivery) error {
		got.add(d)
		return []error{worker.ErrSkip, worker.ErrDuplicate}[d.Event.Data[0]-'0']
	})
	if err != nil {
		return err
	}
	ids, err := env.publish(ctx, publisher.ToQueue(env.Jobs), 2)
	if err != nil {
		return err
	}
	return errors.Join(got.exactly(ctx, "the worker", ids), w.stop())
}

// isolation has a listener that hangs, one that panics, and a worker that fails, beside those that do not.
func isolation(ctx context.Context, env *Env) error {
	const n = 100
	release := make(chan struct{})
	var good, group seen
	var running []*subscriber
	for _, start := range []func() (*subscriber, error){
		func() (*subscriber, error) {
			return env.listen(ctx, bus.Options{}, func(ctx context.Context, _ *worker.Delivery) error {
				select {
				case <-release:
				case <-ctx.Done():
				}
				return nil
			})
		},
		func() (*subscriber, error) {
			return env.listen(ctx, bus.Options{}, func(context.Context, *worker.Delivery) error { panic("on purpose") })
		},
		func() (*subscriber, error) {
			return env.work(ctx, env.Fed, bus.Options{}, func(context.Context, *worker.Delivery) error { return errOnPurpose })
		},
		func() (*subscriber, error) { return env.listen(ctx, bus.Options{}, good.handle) },
		func() (*subscriber, error) { return env.listen(ctx, bus.Options{Group: "email"}, group.handle) },
	} {
		s, err := start()
		if err != nil {
			close(release)
			return err
		}
		running = append(running, s)
	}
	ids, err := env.publish(ctx, publisher.ToTopic(env.Topic), n)
	err = errors.Join(err, good.exactly(ctx, "the listener", ids), group.exactly(ctx, "the group", ids))
	close(release)
	return errors.Join(err, stopAll(running...))
}

func drain(ctx context.Context, env *Env) error {
	const n = 20
	begun, release := make(chan struct{}, n), make(chan struct{})
	var first, second seen
	w, err := env.work(ctx, env.Jobs, bus.Options{}, func(_ context.Context, d *worker.Delivery) error {
		begun <- struct{}{}
		<-release
		first.add(d)
		return nil
	})
	if err != nil {
		return err
	}
	ids, err := env.publish(ctx, publisher.ToQueue(env.Jobs), n)
	if err != nil {
		return err
	}
	select {
	case <-begun:
	case <-ctx.Done():
		return errors.New("no event came")
	}
	w.cancel()
	pause(ctx, settle)
	close(release)
	if err := w.stop(); err != nil {
		return fmt.Errorf("the first worker ended with %w", err)
	}
	if done := first.ids(); len(done) != 1 {
		return fmt.Errorf("the first worker finished %d events, and had one in hand", len(done))
	}
	if w, err = env.work(ctx, env.Jobs, bus.Options{}, second.handle); err != nil {
		return err
	}
	return errors.Join(second.exactly(ctx, "the second worker", ids[1:]), w.stop())
}

func drainTimeout(ctx context.Context, env *Env) error {
	begun, release := make(chan struct{}, 1), make(chan struct{})
	defer close(release)
	var first atomic.Bool
	w, err := env.work(ctx, env.Jobs, bus.Options{DrainTimeout: 50 * time.Millisecond}, func(context.Context, *worker.Delivery) error {
		if first.Swap(true) {
			return nil
		}
		begun <- struct{}{}
		<-release // heeds nothing
		return nil
	})
	if err != nil {
		return err
	}
	ids, err := env.publish(ctx, publisher.ToQueue(env.Jobs), 1)
	if err != nil {
		return err
	}
	select {
	case <-begun:
	case <-ctx.Done():
		return errors.New("no event came")
	}
	if err := w.stop(); !errors.Is(err, worker.ErrDrainTimeout) {
		return fmt.Errorf("the worker ended with %w, want %w", cmp.Or(err, errNothing), worker.ErrDrainTimeout)
	}
	var got seen
	if w, err = env.work(ctx, env.Jobs, bus.Options{}, got.handle); err != nil {
		return err
	}
	return errors.Join(got.exactly(ctx, "the second worker", ids), w.stop())
}

func history(ctx context.Context, env *Env) error {
	past, err := env.publish(ctx, publisher.ToTopic(env.Topic), 5)
	if err != nil {
		return err
	}
	for _, test := range []struct {
		from worker.LogPosition
		skip func(past int) int // so many it does not see
	}{
		{worker.LogFirst(), func(int) int { return 0 }},
		{worker.LogOffset(3), func(int) int { return 3 }},
		{worker.LogLast(), func(past int) int { return past - 1 }},
		{worker.LogTime(time.Now().Add(-time.Hour)), func(int) int { return 0 }},
		{worker.LogNext(), func(past int) int { return past }},
	} {
		want := slices.Clone(past[test.skip(len(past)):])
		var got seen
		l, err := env.listen(ctx, bus.Options{From: &test.from}, got.handle)
		if err != nil {
			return fmt.Errorf("from %s: %w", test.from, err)
		}
		live, err := env.publish(ctx, publisher.ToTopic(env.Topic), 1)
		if err = errors.Join(err, got.exactly(ctx, "from "+test.from.String(), append(want, live...)), l.stop()); err != nil {
			return err
		}
		past = append(past, live...)
	}
	return nil
}

func returned(ctx context.Context, env *Env) error {
	_, err := env.publish(ctx, publisher.ToQueue(env.Jobs+".nobody"), 1)
	var outcome *publisher.OutcomeError
	if !errors.As(err, &outcome) || outcome.Outcome != publisher.Returned {
		return fmt.Errorf("publishing to a queue that is not there gives %w", cmp.Or(err, errNothing))
	}
	return nil
}

func invalid(ctx context.Context, env *Env) error {
	for _, m := range []publisher.Message{
		{Event: event.Event{ID: "1", Source: "s"}},
		{Event: event.Event{ID: "1", Source: "s", Type: "t"}, Headers: map[string]any{"evdemo-x": 1}},
	} {
		m.To = publisher.ToQueue(env.Jobs)
		if err := env.Bus.Publish(ctx, m); !errors.Is(err, publisher.ErrInvalid) {
			return fmt.Errorf("publishing %+v gives %w", m, cmp.Or(err, errNothing))
		}
	}
	return nil
}

func publishers(ctx context.Context, env *Env) error {
	const n, each = 8, 100
	var got seen
	w, err := env.work(ctx, env.Jobs, bus.Options{Concurrency: 4}, got.handle)
	if err != nil {
		return err
	}
	ids, errs := make([][]string, n), make([]error, n)
	var publishing sync.WaitGroup
	for i := range n {
		publishing.Go(func() { ids[i], errs[i] = env.publish(ctx, publisher.ToQueue(env.Jobs), each) })
	}
	publishing.Wait()
	return errors.Join(errors.Join(errs...), got.exactly(ctx, "the worker", slices.Concat(ids...)), w.stop())
}
