package system

import (
	"context"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/check"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/topology"
)

func openStore(tb testing.TB) *eventstore.Store {
	tb.Helper()
	store, err := eventstore.Open(tb.Context(), eventstore.Config{DB: filepath.Join(tb.TempDir(), "shop.db")})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, store.Close()) })
	return store
}

func place(tb testing.TB, store *eventstore.Store, n int) {
	tb.Helper()
	random := rand.New(rand.NewPCG(uint64(n), 1))
	writes := make([]eventstore.StreamWrite, n)
	for i := range writes {
		var err error
		writes[i], err = shop.Placed(shop.Sample(random))
		require.NoError(tb, err)
	}
	_, err := store.Append(tb.Context(), writes...)
	require.NoError(tb, err)
}

// runUntilSound runs a shop until nothing is wrong with it any more.
func runUntilSound(t *testing.T, config Config) (check.Report, []Count) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	type ended struct {
		counts []Count
		err    error
	}
	done := make(chan ended, 1)
	running, stop := context.WithCancel(ctx)
	go func() {
		counts, err := Run(running, config)
		done <- ended{counts, err}
	}()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case e := <-done:
			require.NoError(t, e.err)
			t.Fatal("the shop has ended by itself")
		case <-ctx.Done():
			_, err := check.Log(context.WithoutCancel(ctx), config.Store, func(f check.Finding) { t.Log(f) })
			require.NoError(t, err)
			t.Fatal("not all orders have come to their right end")
		case <-tick.C:
		}
		report, err := check.Log(ctx, config.Store, func(check.Finding) {})
		require.NoError(t, err)
		if report.Sound() {
			stop()
			e := <-done
			require.NoError(t, e.err)
			return report, e.counts
		}
	}
}

func flows() []service.Flow { return []service.Flow{service.Choreography, service.Orchestration} }

func TestEveryOrderEndsInMemory(t *testing.T) {
	t.Parallel()
	for _, flow := range flows() {
		t.Run(string(flow), func(t *testing.T) {
			t.Parallel()
			store := openStore(t)
			place(t, store, 150)
			faults := Faults{
				Seed: 1, Refuse: map[string]float64{service.Fraud: 0.1, service.Payment: 0.1, service.Inventory: 0.1, service.Shipping: 0.1},
				Fail: map[string]float64{service.Payment: 0.05, service.Email: 0.05},
			}
			report, _ := runUntilSound(t, Config{Store: store, Flow: flow, Faults: faults})
			require.Equal(t, 150, report.Orders)
			require.Positive(t, report.Refunded)
			requireSchemas(t, store)

			head, err := store.Head(t.Context())
			require.NoError(t, err)
			place(t, store, 7) // what happened comes again, and is known
			report, _ = runUntilSound(t, Config{Store: store, Flow: flow, Faults: faults})
			require.Equal(t, 157, report.Orders)
			after, err := store.Head(t.Context())
			require.NoError(t, err)
			require.Less(t, after-head, int64(7*35))
		})
	}
}

// requireSchemas checks that every event of the shop is as its schema says.
func requireSchemas(t *testing.T, store *eventstore.Store) {
	t.Helper()
	registry, err := shop.Schemas()
	require.NoError(t, err)
	for r, err := range store.Read(t.Context(), eventstore.Query{}) {
		require.NoError(t, err)
		if slices.Contains(registry.Types(), r.Type) {
			require.NoError(t, registry.Check(r.Event))
		} else if _, published := shop.Topic(r.Type); published {
			require.Fail(t, "no schema", r.Type)
		}
	}
}

func TestEveryOrderEndsOnRabbitMQ(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	for _, flow := range flows() {
		t.Run(string(flow), func(t *testing.T) {
			t.Parallel()
			store := openStore(t)
			place(t, store, 100)
			config := Config{
				Store: store, Flow: flow, Prefix: brokertest.Name(t, "shop") + ".", Broker: &Broker{URLs: []string{url}},
				Faults: Faults{Refuse: map[string]float64{service.Shipping: 0.2}, Fail: map[string]float64{service.Shipping: 0.2}},
			}
			t.Cleanup(func() { deleteAll(t, url, &config) })
			report, counts := runUntilSound(t, config)
			require.Equal(t, 100, report.Orders)
			at := slices.IndexFunc(counts, func(c Count) bool { return c.Name == service.Shipping })
			require.Positive(t, counts[at].Failed)
		})
	}
}

func deleteAll(t *testing.T, url string, config *Config) {
	t.Helper()
	s, err := session.Dial(context.Background(), session.Config{URLs: []string{url}})
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, Resources(config.Flow, config.Prefix).Delete(context.Background(), s, topology.EvenShared()))
}

func TestTopicsOfAServiceAreThoseOfBothFlows(t *testing.T) {
	t.Parallel()
	want := map[string][]string{}
	for _, flow := range flows() {
		services, err := service.All(service.Config{Store: openStore(t), Flow: flow})
		require.NoError(t, err)
		names := make([]string, len(services))
		for i, s := range services {
			names[i] = s.Name
			want[s.Name] = append(want[s.Name], s.Topics...)
		}
		require.Equal(t, service.Names(flow), names)
	}
	for name, topics := range want {
		slices.Sort(topics)
		require.Equal(t, slices.Compact(topics), service.Topics(name), name)
	}
}

func TestAStoreKeepsToItsFlow(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	require.NoError(t, KeepFlow(t.Context(), store, service.Orchestration))
	require.NoError(t, KeepFlow(t.Context(), store, service.Orchestration))
	require.ErrorIs(t, KeepFlow(t.Context(), store, service.Choreography), ErrFlow)
	_, err := Run(t.Context(), Config{Store: store, Flow: service.Choreography})
	require.ErrorIs(t, err, ErrFlow)
}

func TestPartsThatThereAreNot(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	_, err := Run(t.Context(), Config{Store: store, Names: []string{"payments"}})
	require.ErrorIs(t, err, ErrName)
	require.ErrorContains(t, err, "payment")
	_, err = Run(t.Context(), Config{Store: store, Down: []string{"mail"}})
	require.ErrorIs(t, err, ErrName)
	_, err = Run(t.Context(), Config{Store: store, Faults: Faults{Fail: map[string]float64{"paiment": 1}}})
	require.ErrorIs(t, err, ErrName)
}

// A part that is away holds up nobody else, and finds its events when it is back.
func TestWhatIsDownHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	store := openStore(t)
	place(t, store, 20)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		defer cancel()
		shipped := 0
		for _, err := range store.Follow(ctx, eventstore.Query{Types: []string{shop.OrderShipped}}) {
			if shipped++; err != nil || shipped == 20 {
				return
			}
		}
	}()
	counts, err := Run(ctx, Config{Store: store, Down: []string{service.Email}})
	require.NoError(t, err)
	require.False(t, slices.ContainsFunc(counts, func(c Count) bool { return c.Name == service.Email }))
	report, err := check.Log(t.Context(), store, func(check.Finding) {})
	require.NoError(t, err)
	require.Equal(t, 20, report.Shipped)
	require.Equal(t, 20, report.Findings[check.Told])
	report, _ = runUntilSound(t, Config{Store: store})
	require.Equal(t, 20, report.Shipped)
}
