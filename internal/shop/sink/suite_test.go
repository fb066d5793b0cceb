package sink_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/sink"
	"github.com/evdemo/evdemo/worker"
)

const (
	suiteOrders = 150
	crashOrders = 400
	kills       = 10
	// crashOffers is how often a process that is to be killed hands over everything: it should not come to its end.
	crashOffers = 10
)

// open opens a sink, here or in a child.
func open(ctx context.Context, kind string, at place) (sink.Sink, error) {
	switch kind {
	case "lake":
		return sink.OpenLake(ctx, sink.LakeConfig{Dir: at.Dir})
	case "analytics":
		return sink.OpenAnalytics(ctx, sink.AnalyticsConfig{DB: at.Dir + at.URL})
	case "search":
		return sink.OpenSearch(ctx, sink.SearchConfig{Dir: at.Dir})
	case "webhooks":
		return sink.OpenWebhooks(ctx, sink.WebhooksConfig{DB: at.Dir, Receivers: receiversAt(at.URL)})
	case "crm":
		return openCRM(ctx, at)
	case "cache":
		return openCacheSink(ctx, at)
	default:
		return nil, fmt.Errorf("no sink %q", kind)
	}
}

// subject is a sink under test.
type subject struct {
	kind string
	// place makes where it has what it writes.
	place func(t *testing.T) place
	// check looks, while nobody has it open, whether all events of a history have had their effect, and once.
	check func(t *testing.T, at place, orders int)
	// shared is set for those that several processes may have open.
	shared bool
	// anything is set for a sink that takes events of any type and with any data that is JSON.
	anything bool
	// orderIDs is set for a sink that reads no more than which order an event is about.
	orderIDs bool
}

// run runs the tests that every sink must pass.
func (s subject) run(t *testing.T) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, subject){
		"redelivery": testRedelivery, "crash": testCrash, "hostile": testHostile, "foreign": testForeign, "in use": testInUse,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}

func (s subject) open(t *testing.T, at place) sink.Sink {
	t.Helper()
	opened, err := open(t.Context(), s.kind, at)
	require.NoError(t, err)
	return opened
}

// Every event is delivered several times at once and out of order, and the whole log again after a start.
func testRedelivery(t *testing.T, s subject) {
	t.Helper()
	at, seed := s.place(t), rand.Uint64()
	t.Logf("seed %d", seed)
	for n := range uint64(2) {
		opened := s.open(t, at)
		assert.Equal(t, s.kind, opened.Name())
		assert.Subset(t, shop.Topics(), opened.Topics())
		require.NoError(t, handleAll(t.Context(), opened, history(suiteOrders), 3, seed+n))
		require.NoError(t, opened.Close(t.Context()))
		s.check(t, at, suiteOrders)
	}
}

// The process is killed at random moments, also while it opens the sink.
func testCrash(t *testing.T, s subject) {
	t.Helper()
	at, seed := s.place(t), rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	killed := 0
	for range kills {
		cmd := child{s.kind, at, crashOrders, crashOffers, random.Uint64()}.start(t)
		kill := time.AfterFunc(time.Duration(random.Int64N(int64(400*time.Millisecond))), func() { _ = cmd.Process.Kill() })
		if err := cmd.Wait(); kill.Stop() || err == nil {
			require.NoError(t, err)
		} else {
			killed++
		}
	}
	t.Logf("killed %d times", killed)
	assert.GreaterOrEqual(t, killed, kills/2, "too few kills to prove anything")
	require.NoError(t, child{s.kind, at, crashOrders, 2, random.Uint64()}.start(t).Wait())
	s.check(t, at, crashOrders)
}

// What cannot be understood is refused for good, and has no effect.
func testHostile(t *testing.T, s subject) {
	t.Helper()
	at := s.place(t)
	opened := s.open(t, at)
	events := history(suiteOrders)
	for _, e := range hostile(s) {
		err := opened.Handle(t.Context(), delivery([]event.Event{e}, 0))
		if !errors.Is(err, worker.ErrSkip) {
			require.Error(t, err, "%s: %.200s", e.Type, e.Data)
			_, reason := worker.Policy{Retry: []time.Duration{1}, MaxAttempts: 2}.Decide(1, err)
			assert.Equal(t, worker.ReasonPermanent, reason, "%v", err)
			assert.Less(t, len(err.Error()), 2000)
		}
	}
	require.NoError(t, handleAll(t.Context(), opened, events, 1, 1))
	require.NoError(t, opened.Close(t.Context()))
	s.check(t, at, suiteOrders)
}

// hostile are events with what should not be in them.
func hostile(s subject) (events []event.Event) {
	good := history(1)
	bodies := []string{"no json", "{", "\xff\xfe", `{"a":1} 2`, "\"\xff\"", strings.Repeat("[", 20_000)}
	if !s.anything {
		bodies = append(bodies, "", "null", "[]", "7", `"x"`, `{}`, strings.Repeat("[", 9000)+strings.Repeat("]", 9000),
			`{"order_id":7,"order":{"order_id":7}}`, `{"order_id":"a\u0000b","user_id":"u","order":{"order_id":"a\u0000b","user_id":"u"}}`)
		changes := []func(*shop.Order){
			func(o *shop.Order) { o.OrderID = "" },
			func(o *shop.Order) { o.OrderID = strings.Repeat("x", 10_000) },
			func(o *shop.Order) { o.UserID = strings.Repeat("x", 10_000) },
			func(o *shop.Order) { o.UserID = "a\nb" },
			func(o *shop.Order) { o.Amount = -1 },
			func(o *shop.Order) { o.Amount = 1 << 62 },
			func(o *shop.Order) { o.Items[0].Quantity = -5 },
			func(o *shop.Order) { o.Items[0].Price = 1 << 61 },
			func(o *shop.Order) { o.Items[0].SKU = "" },
			func(o *shop.Order) { o.Items = make([]shop.Item, 20_000) },
		}
		if s.orderIDs {
			changes = changes[:2]
		}
		for _, change := range changes {
			o := orderOf(0)
			change(&o)
			alone, _ := json.Marshal(o)
			decision, _ := json.Marshal(shop.Decision{Order: o, Amount: 1})
			events = append(events, withData(good[0], string(alone)), withData(good[4], string(decision)), withData(good[2], string(decision)))
		}
	}
	for _, e := range good[:6] {
		for _, body := range bodies {
			events = append(events, withData(e, body))
		}
	}
	long, control, noID := good[0], good[0], good[0]
	long.ID, control.ID, noID.ID = strings.Repeat("x", 5000), "a\x00b", ""
	late := good[0]
	late.Time = time.Date(20_000, 1, 1, 0, 0, 0, 0, time.UTC)
	return append(events, long, control, noID, late)
}

func withData(e event.Event, data string) event.Event {
	e.ID += "-hostile"
	e.Data = []byte(data)
	return e
}

// What is not the shop's is skipped, and so are commands and messages that are no events.
func testForeign(t *testing.T, s subject) {
	t.Helper()
	at := s.place(t)
	opened := s.open(t, at)
	for _, e := range history(2) {
		for _, source := range []string{"orders", "shop", "shopping/cart", "/shop/order", ""} {
			theirs := e
			theirs.Source, theirs.Data = source, []byte("no json")
			require.ErrorIs(t, opened.Handle(t.Context(), &worker.Delivery{Event: theirs}), worker.ErrSkip)
		}
		foreign := &worker.Delivery{Event: e, Foreign: errors.New("is no event")}
		require.ErrorIs(t, opened.Handle(t.Context(), foreign), worker.ErrSkip)
		e.Type = shop.ChargePayment
		require.ErrorIs(t, opened.Handle(t.Context(), &worker.Delivery{Event: e}), worker.ErrSkip)
	}
	require.NoError(t, opened.Close(t.Context()))
	s.check(t, at, 0)
}

// A second one at the same place gets a clear error, until the first has closed it.
func testInUse(t *testing.T, s subject) {
	t.Helper()
	if s.shared {
		return
	}
	at := s.place(t)
	first := s.open(t, at)
	_, err := open(t.Context(), s.kind, at)
	require.ErrorIs(t, err, sink.ErrInUse)
	require.ErrorContains(t, err, "stop that one")
	require.NoError(t, first.Close(t.Context()))
	require.NoError(t, s.open(t, at).Close(t.Context()))
}
