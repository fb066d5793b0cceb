package scenario

import (
	"context"
	"encoding/json"
	"os"

	eventschema "github.com/evdemo/evdemo/event/schema"
	"github.com/evdemo/evdemo/internal/stage"
	"github.com/evdemo/evdemo/worker"
)

// schemaRead is what a reader prints of each order.
type schemaRead struct {
	ID    string
	Cents int
}

// schemaCompare adds up what a reader has read of each order, and counts the orders of which that differs from what was sent, and
// those that nobody sent.
func schemaCompare(read, sent map[string]int) (sum, differ, unsent int) {
	for id, cents := range read {
		sum += cents
		if right, ok := sent[id]; !ok {
			unsent++
		} else if cents != right {
			differ++
		}
	}
	return sum, differ, unsent
}

// schemaReader adds up a field: where there are schemas, of events of the version that has it.
func schemaReader(ctx context.Context, p *stage.Player) error {
	read := func(_ context.Context, d *worker.Delivery) error {
		var order map[string]any
		if err := json.Unmarshal(d.Event.Data, &order); err != nil {
			return err
		}
		cents, _ := order[p.Args["field"]].(float64) // without such a field 0, as in most languages
		return p.Print(schemaRead{d.Event.ID, int(cents)})
	}
	if dir := p.Args["schemas"]; dir != "" {
		registry, err := eventschema.Load(os.DirFS(dir))
		if err != nil {
			return err
		}
		version := map[string]int{"amount": 1, "total": 2}[p.Args["field"]]
		upcaster := eventschema.Upcaster{Type: schemaType, From: 1, Upcast: schemaTotal}
		reader, err := registry.Reader(map[string]int{schemaType: version}, upcaster)
		if err != nil {
			return err
		}
		read = worker.Wrap(read, worker.Schemas(reader))
	}
	w, err := worker.New(worker.Config{URLs: p.URLs, TLS: p.TLS, Queue: p.Args["queue"]}, read)
	if err != nil {
		return err
	}
	p.Ready()
	return w.Run(ctx)
}

// schemaTotal makes version 2 of an order of version 1.
func schemaTotal(data []byte) ([]byte, error) {
	var order map[string]any
	if err := json.Unmarshal(data, &order); err != nil {
		return nil, err
	}
	order["total"] = order["amount"]
	return json.Marshal(order)
}
