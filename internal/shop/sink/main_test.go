package sink_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore/relay"
	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/sink"
	"github.com/evdemo/evdemo/worker"
)

const (
	// patience bounds every wait.
	patience = 2 * time.Minute
	// concurrency is how many events a sink is handed at a time.
	concurrency = 64

	childEnv = "EVDEMO_SINK_CHILD"
)

// TestMain runs this binary as a child where a test has started it as one.
func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		if err := runChild(context.Background(), spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// The index library starts its workers when it is loaded, and leaves them until the process ends.
	goleak.VerifyTestMain(postgrestest.Main(m), goleak.IgnoreAnyFunction("github.com/blevesearch/bleve_index_api.AnalysisWorker"))
}

// child says what a process of its own is to do: hand every event of a history to a sink so many times, in an order of
// its own.
type child struct {
	Kind   string
	Place  place
	Orders int
	Offers int
	Seed   uint64
}

// place is where a sink has what it writes.
type place struct{ Dir, URL string }

func runChild(ctx context.Context, spec string) error {
	var c child
	if err := json.Unmarshal([]byte(spec), &c); err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, "begun")
	s, err := open(ctx, c.Kind, c.Place)
	if err != nil {
		return err
	}
	return errors.Join(handleAll(ctx, s, history(c.Orders), c.Offers, c.Seed), s.Close(ctx))
}

// start runs the child.
func (c child) start(t *testing.T) *exec.Cmd {
	t.Helper()
	spec, err := json.Marshal(c)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(spec))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "begun\n", line)
	return cmd
}

// handleAll hands all events to a sink, each so many times, in an order that the seed gives. What is retried by a worker
// is retried here.
func handleAll(ctx context.Context, s sink.Sink, events []event.Event, offers int, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // it is repeatable
	var group errgroup.Group
	group.SetLimit(concurrency)
	for _, n := range random.Perm(len(events) * offers) {
		group.Go(func() error {
			d := delivery(events, n%len(events))
			for attempt := 1; ; attempt++ {
				d.Attempt = attempt
				err := s.Handle(ctx, d)
				_, reason := worker.Policy{Retry: []time.Duration{1}, MaxAttempts: 200}.Decide(attempt, err)
				switch {
				case skipped(err) == nil:
					return nil
				case reason != "":
					return fmt.Errorf("%s: event %s: %w", s.Name(), d.Event.ID, err)
				}
			}
		})
	}
	return group.Wait()
}

// delivery is an event as it arrives from the log: at the position behind its index.
func delivery(events []event.Event, index int) *worker.Delivery {
	queue := "shop.orders." + []string{"a", "b", "c"}[rand.IntN(3)] //nolint:gosec // any of several queues
	return &worker.Delivery{
		Event: events[index], Queue: queue, Attempt: 1,
		Headers: map[string]any{relay.HeaderPosition: int64(index + 1)},
	}
}

// began is when the first event of every history was.
var began = time.Date(2026, 3, 30, 22, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // a constant

// history gives the events of so many orders, which are the same every time. They are of several days. Every fifth order
// is cancelled, and paid back; the others are shipped.
func history(orders int) (events []event.Event) {
	for n := range orders {
		o := orderOf(n)
		add := func(eventType, source string, data any) {
			payload, _ := json.Marshal(data)
			events = append(events, event.Event{
				ID: fmt.Sprintf("event-%d", len(events)), Source: "shop/" + source, Type: eventType, Subject: o.OrderID,
				Time: began.Add(time.Duration(n)*50*time.Hour/time.Duration(orders) + time.Duration(len(events))*time.Second),
				Data: payload, DataContentType: event.ContentTypeJSON,
				Extensions: map[string]any{event.ExtCorrelationID: "flow-" + o.OrderID, event.ExtCausationID: "cause"},
			})
		}
		add(shop.OrderCreated, "order", o)
		add(shop.FraudCleared, "fraud", shop.Decision{Order: o})
		add(shop.PaymentProcessed, "payment", shop.Decision{Order: o, Amount: o.Amount, Reference: "pay-" + o.OrderID})
		add(shop.InventoryReserved, "inventory", shop.Decision{Order: o})
		if cancelled(n) {
			add(shop.PaymentRefunded, "payment", shop.Decision{Order: o, Amount: o.Amount})
			add(shop.OrderCancelled, "order", shop.Decision{Order: o, Reason: "out of <stock> & \"more\""})
			continue
		}
		add(shop.OrderShipped, "shipping", shop.Decision{Order: o, Reference: "track-" + o.OrderID})
		add(shop.LoyaltyAwarded, "loyalty", shop.Decision{Order: o, Points: o.Amount / 100})
		add(shop.NotificationSent, "notification", shop.Notification{
			OrderID: o.OrderID, UserID: o.UserID, Channel: "email", Text: "Ihr Paket ist da: äöü\n",
		})
	}
	return events
}

func cancelled(n int) bool { return n%5 == 4 }

func orderOf(n int) shop.Order {
	items := []shop.Item{{SKU: fmt.Sprintf("item-%d", n%7), Quantity: 1 + n%3, Price: 100 + n%11}}
	if n%2 == 0 {
		items = append(items, shop.Item{SKU: fmt.Sprintf("item-%d", n%5), Quantity: 2, Price: 999})
	}
	amount := 0
	for _, item := range items {
		amount += item.Quantity * item.Price
	}
	return shop.Order{
		OrderID: fmt.Sprintf("order-%d", n), UserID: fmt.Sprintf("user-%d", n%13), Items: items, Amount: amount, Currency: "EUR",
	}
}

// text is a value as JSON.
func text(value any) string {
	b, _ := json.Marshal(value)
	return string(b)
}

// skipped takes what a worker acknowledges all the same for no error.
func skipped(err error) error {
	if errors.Is(err, worker.ErrDuplicate) || errors.Is(err, worker.ErrSkip) {
		return nil
	}
	return err
}
