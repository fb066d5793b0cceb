package saga_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/bus"
	"github.com/evdemo/evdemo/bus/rabbitmq"
	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/eventstore/relay"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/saga"
	"github.com/evdemo/evdemo/topology"
)

// travel is a service that takes all steps of a trip, but for hotels that are full, or that do not answer.
func travel(tb testing.TB, store *eventstore.Store, definition saga.Definition) *saga.Participant {
	tb.Helper()
	react := map[string]func(context.Context, *saga.Turn[*account]) error{}
	for _, s := range definition.Steps {
		react[s.Name+".book"] = func(_ context.Context, t *saga.Turn[*account]) error {
			switch who := t.Trigger.Subject; {
			case s.Name == "hotel" && strings.HasPrefix(who, "full"):
				t.Emit("hotel.full", nil)
			case s.Name == "hotel" && strings.HasPrefix(who, "silent"), t.State().has(s.Name + ".cancelled"):
			default:
				t.Emit(s.Name+".booked", nil)
			}
			return nil
		}
		react[s.Name+".cancel"] = func(_ context.Context, t *saga.Turn[*account]) error {
			t.Emit(s.Name+".cancelled", nil)
			return nil
		}
	}
	p, err := saga.NewParticipant(store, saga.Service[*account]{
		Name: "travel", Fold: accounts(), React: react, Streams: func(e event.Event) []string { return []string{"travel-" + e.Subject} },
	})
	require.NoError(tb, err)
	return p
}

// trips is a topic with a group for the coordinator and one for the service.
func trips(prefix string) topology.Spec {
	quick := topology.Queue{Retry: []time.Duration{50 * time.Millisecond}}
	return topology.Spec{
		Topics: map[string]topology.Topic{"trips": {Groups: []string{"saga", "travel"}}},
		Queues: map[string]topology.Queue{"trips.saga": quick, "trips.travel": quick},
	}.WithPrefix(prefix)
}

// overBus runs trips whose services know nothing of each other: a relay publishes what is decided, and they listen.
func overBus(t *testing.T, b bus.Bus, to relay.Publisher, topic string) {
	t.Helper()
	store := openFile(t)
	definition := trip(0)
	definition.Steps[1].Timeout = time.Second
	c, service := coordinator(t, store, definition), travel(t, store, definition)
	r, err := relay.New(relay.Config{Store: store, Publisher: to, To: relay.ToTopic(topic)})
	require.NoError(t, err)
	ready := make(chan struct{}, 2)
	background(t, func(ctx context.Context) error {
		group, running := errgroup.WithContext(ctx)
		options := bus.Options{Concurrency: 8, Ready: func() { ready <- struct{}{} }}
		group.Go(func() error { return c.Run(running) })
		group.Go(func() error { return r.Run(running) })
		group.Go(func() error {
			options := options
			options.Group = "saga"
			return b.Listen(running, topic, options, c.Handle)
		})
		group.Go(func() error {
			options := options
			options.Group = "travel"
			return b.Listen(running, topic, options, service.Handle)
		})
		return errors.Join(group.Wait(), ctx.Err())
	})
	<-ready
	<-ready
	var ids []string
	for n := range 5 {
		for _, kind := range []string{"good", "full", "silent"} {
			ids = append(ids, fmt.Sprintf("%s-%d", kind, n))
			wanted := eventstore.StreamWrite{Stream: "wanted", Events: []event.Event{happened(t, "trip.wanted", ids[len(ids)-1], nil)}}
			_, err := store.Append(t.Context(), wanted)
			require.NoError(t, err)
		}
	}
	for _, id := range ids {
		eventually(t, func() bool { s := statusOf(t, c, id); return s == saga.Completed || s == saga.Compensated }, "the end of "+id)
		sound(t, store, c, id, definition)
		seen := types(t, store, c.Stream(id))
		late := slices.Contains(seen, saga.TypeStepFailed) && dataOf[saga.Progress](t, last(t, store, c.Stream(id), saga.TypeStepFailed)).Unknown
		switch kind, _, _ := strings.Cut(id, "-"); {
		case late: // as any of them may be where the machine is busy
			assert.Contains(t, seen, "hotel.cancel")
		case kind == "good":
			assert.Contains(t, seen, saga.TypeCompleted, id)
		default:
			assert.Equal(t, "full", kind, "what is silent is late")
			assert.NotContains(t, seen, "hotel.cancel", id)
		}
	}
}

// inMemory publishes to a bus in memory, as a relay does.
type inMemory struct{ *bus.Memory }

func (m inMemory) Send(ctx context.Context, message publisher.Message, done func(publisher.Result)) error {
	if err := m.Publish(ctx, message); err != nil {
		return err
	}
	done(publisher.Result{Message: message, Outcome: publisher.Confirmed, Attempts: 1})
	return nil
}

func TestInMemory(t *testing.T) {
	t.Parallel()
	spec := trips("")
	b := bus.NewMemory(bus.Config{Topology: &spec})
	defer b.Close()
	overBus(t, b, inMemory{b}, "trips")
}

func TestRabbitMQ(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	prefix := brokertest.Name(t, "saga") + "."
	spec := trips(prefix)
	b, err := rabbitmq.Open(t.Context(), rabbitmq.Config{URLs: []string{url}, Topology: &spec})
	require.NoError(t, err)
	p, err := publisher.Open(t.Context(), publisher.Config{URLs: []string{url}})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		assert.NoError(t, p.Close(ctx))
		assert.NoError(t, b.Close(ctx))
		s, err := session.Dial(ctx, session.Config{URLs: []string{url}})
		require.NoError(t, err)
		defer s.Close()
		assert.NoError(t, spec.Resources().Delete(ctx, s, topology.EvenShared()))
	})
	overBus(t, b, p, prefix+"trips")
}
