package chaos

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/eventstore/relay"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/check"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/system"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
)

func TestConfigReportsAllMistakesTogether(t *testing.T) {
	t.Parallel()
	_, err := Run(t.Context(), Config{
		Flow: "ballet", Orders: -1, Ahead: -1, Kills: MostKills + 1, BrokerKills: 1, StepTimeout: -1, URLs: []string{"amqp://localhost"},
	})
	for _, mistake := range []string{`Flow "ballet"`, "Orders -1", "Ahead -1", "Kills 10001", "BrokerKills is for a private node", "StepTimeout -1ns"} {
		require.ErrorContains(t, err, mistake)
	}
}

func TestEventStoreMustBeNew(t *testing.T) {
	t.Parallel()
	db := filepath.Join(t.TempDir(), "used.db")
	store, err := eventstore.Open(t.Context(), eventstore.Config{DB: db})
	require.NoError(t, err)
	e, err := event.New("something.happened", "test", nil)
	require.NoError(t, err)
	_, err = store.Append(t.Context(), eventstore.StreamWrite{Stream: "s", Events: []event.Event{e}})
	require.NoError(t, err)
	require.NoError(t, store.Close())
	_, err = Run(t.Context(), Config{DB: db})
	require.ErrorIs(t, err, ErrUsed)
	require.ErrorContains(t, err, "used.db has 1 events")
}

func TestDirectoryMustBeNew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "broker"), 0o700))
	_, err := Run(t.Context(), Config{Dir: dir})
	require.ErrorIs(t, err, ErrUsed)
	require.NoFileExists(t, filepath.Join(dir, "shop.db"))
}

func TestBrokerThatIsNotThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Run(t.Context(), Config{Dir: dir, URLs: []string{"amqp://127.0.0.1:1/"}, ConnectTimeout: 10 * time.Millisecond})
	require.ErrorIs(t, err, session.ErrUnreachable)
}

// idle is a proof in which the parts run and do nothing.
func idle(t *testing.T, how string, screen *bytes.Buffer) *run {
	t.Helper()
	r, err := newRun(Config{
		URLs: []string{brokertest.URL(t)}, Orders: 20, Kills: 1, Screen: screen, Live: true,
		Environment: func(string) []string { return append(os.Environ(), behaviour+"="+how) },
	})
	require.NoError(t, err)
	return r
}

func TestShopThatStandsStill(t *testing.T) {
	t.Parallel()
	var screen bytes.Buffer
	r := idle(t, "works", &screen)
	r.patience = time.Second
	report, err := r.do(t.Context())
	require.NoError(t, err)
	defer os.RemoveAll(r.Dir)
	require.False(t, report.Holds)
	require.Equal(t, 1, report.Findings[Rest])
	require.Equal(t, report.Open, report.Findings[check.Ends])
	require.Equal(t, 5, report.Open, "no more are placed than may be under way")
	require.Equal(t, 1, report.Findings[AllThere])
	require.Positive(t, report.Handled)
	require.Contains(t, screen.String(), "  ended   ······")
	require.Contains(t, screen.String(), "What there is to look into is in "+r.Dir)
	require.FileExists(t, filepath.Join(r.logs(), "payment-2.jsonl"))
}

func TestShopThatDoesNotStart(t *testing.T) {
	t.Parallel()
	r := idle(t, "does not start", &bytes.Buffer{})
	_, err := r.do(t.Context())
	require.ErrorIs(t, err, ErrStart)
	require.NoDirExists(t, r.Dir)
}

func TestInterruptedProof(t *testing.T) {
	t.Parallel()
	r := idle(t, "works", &bytes.Buffer{})
	ctx, cancel := context.WithCancel(t.Context())
	r.Environment = func(string) []string {
		time.AfterFunc(2*time.Second, cancel)
		return append(os.Environ(), behaviour+"=works")
	}
	_, err := r.do(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.NoDirExists(t, r.Dir)
}

// full is a broker on which something is left.
type full struct {
	broker
	left map[string]int
}

func (f full) waiting(context.Context, topology.Resources) (map[string]int, error) {
	return f.left, nil
}

func TestWhatIsLeftInAQueueIsFound(t *testing.T) {
	t.Parallel()
	r := &run{broker: full{left: map[string]int{"shop.lake": 7, "shop.email.dlq": 3, "shop.payment.dlq": 2}}}
	r.report.Findings = map[check.Rule]int{}
	require.NoError(t, r.inspectQueues(t.Context()))
	require.Equal(t, map[check.Rule]int{Empty: 1, NoneGivenUp: 2}, r.report.Findings)
	require.Equal(t, 5, r.report.DeadLetters)
	require.Contains(t, r.report.First, check.Finding{Rule: NoneGivenUp, Detail: "3 in shop.email.dlq"})
}

func TestOnlyTheFirstFindingsAreInFull(t *testing.T) {
	t.Parallel()
	r := Report{}
	r.Findings = map[check.Rule]int{}
	for range shown + 5 {
		r.wrong(NoCrash, "it has")
	}
	require.Len(t, r.First, shown)
	require.Equal(t, shown+5, r.Findings[NoCrash])
}

func TestPlainEnvironmentHasNoFlagsOfThisProcess(t *testing.T) {
	t.Setenv("EVDEMO_SEED", "7")
	env := plainEnvironment("amqp://there")
	require.Contains(t, env, "EVDEMO_URL=amqp://there")
	require.NotContains(t, env, "EVDEMO_SEED=7")
}

func TestTheCoordinatorHasARival(t *testing.T) {
	t.Parallel()
	require.True(t, doubled(service.Coordinator))
	require.False(t, doubled("lake"), "a sink is alone")
}

// scripted is a broker on which nothing is, but that something is left when the parts have ended for the first time.
type scripted struct {
	broker
	crew func() *crew
	left []int // each time that the parts have ended
}

func (s *scripted) url() string     { return "amqp://127.0.0.1:1/" }
func (s *scripted) version() string { return "script" }
func (s *scripted) prefix() string  { return "" }

func (s *scripted) waiting(context.Context, topology.Resources) (map[string]int, error) {
	select {
	case <-s.crew().ended:
		n := s.left[0]
		s.left = s.left[min(1, len(s.left)-1):]
		if n == 0 {
			return map[string]int{"shop.email.dlq": 1}, nil
		}
		return map[string]int{"shop.lake": n, "shop.email.dlq": 1}, nil
	default:
		return nil, nil
	}
}

// nobody is told anything.
type nobody struct{}

func (nobody) Send(context.Context, publisher.Message, func(publisher.Result)) error {
	return errors.New("nothing is to be published")
}

// shipAll publishes nothing, and ships every order, until ctx ends.
func shipAll(ctx context.Context, t *testing.T, store *eventstore.Store) (wait func()) {
	t.Helper()
	skip := func(eventstore.Recorded) (publisher.Destination, error) {
		return publisher.Destination{}, relay.ErrSkip
	}
	r, err := relay.New(relay.Config{Store: store, Publisher: nobody{}, Name: system.RelayName, To: skip})
	require.NoError(t, err)
	var group errgroup.Group
	group.Go(func() error { return r.Run(ctx) })
	group.Go(func() error {
		for e, err := range store.Follow(ctx, eventstore.Query{Types: []string{shop.OrderCreated}}) {
			if err != nil {
				return nil
			}
			shipped, err := event.New(shop.OrderShipped, "shop/shipping", shop.Decision{Order: shop.Order{OrderID: e.Subject}})
			if err != nil {
				return err
			}
			shipped.Subject = e.Subject
			if _, err := store.Append(ctx, eventstore.StreamWrite{Stream: "shipping-" + e.Subject, Events: []event.Event{shipped}}); err != nil {
				return err
			}
		}
		return nil
	})
	return func() { require.NoError(t, group.Wait()) }
}

func TestShopIsStartedAgainForWhatIsLeft(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		left   []int
		again  int // how often it is started again
		wanted int // findings of a queue
	}{
		"nothing":                      {left: []int{0}},
		"done in the next round":       {left: []int{5, 0}, again: 1},
		"less each time":               {left: []int{5, 3, 1, 0}, again: 3},
		"no less than the time before": {left: []int{5, 5, 5, 5, 5}, again: 1, wanted: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var screen bytes.Buffer
			r, err := newRun(Config{
				Dir: t.TempDir(), Orders: 3, Screen: &screen,
				Environment: func(string) []string { return append(os.Environ(), behaviour+"=works") },
			})
			require.NoError(t, err)
			r.calm = 100 * time.Millisecond
			require.NoError(t, r.makeDir())
			r.store, err = r.openStore(t.Context())
			require.NoError(t, err)
			defer r.store.Close()
			r.broker = &scripted{crew: func() *crew { return r.crew }, left: c.left}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			wait := shipAll(ctx, t, r.store)
			require.NoError(t, r.prove(ctx))
			cancel()
			wait()
			require.Equal(t, c.again, strings.Count(screen.String(), "Starting all parts again."), &screen)
			require.Equal(t, c.wanted, r.report.Findings[Empty])
			require.Equal(t, 1, r.report.DeadLetters, "which do not come back by that")
			require.Zero(t, r.report.Findings[Rest])
			require.Zero(t, r.report.Findings[AllThere])
			require.Equal(t, 3, r.report.Shipped)
		})
	}
}
