package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/internal/stage"
	"github.com/evdemo/evdemo/topology"
)

const (
	schemaType = "order.created"
	schemaEach = 100 // orders of each program
)

// schema: a field gets another name, which nobody notices, or nobody can send.
func schema() stage.Scenario {
	return stage.Scenario{
		Name:  "schema",
		Title: "A field gets another name, and sums are wrong without an error",
		Lesson: "Who sends an event does not know who reads it, and a program that misses a field mostly counts it as 0 and goes on. " +
			"A schema writes down which fields each version of an event has, and events that do not keep to it are refused before the first of them is sent. " +
			"So a new version keeps the old fields and adds new ones, and old events are translated for a reader of the new version, by a small function that is called an upcaster.",
		Broken: "there are no schemas, and version 2 of an order has other names for its fields.",
		Fixed:  "there is a schema for each version; version 2 keeps the old fields and adds one, and what comes of version 1 is translated for the reader of version 2.",
		Play:   playSchema,
		Parts:  map[string]stage.Part{"reader": schemaReader},
		Figures: []stage.Figure{
			{Key: "worth", Label: "the right sum, of all orders that were sent (others in each mode)", Unit: "EUR"},
			{Key: "amount", Label: "what the reader of version 1 adds up", Unit: "EUR"},
			{Key: "total", Label: "what the reader of version 2 adds up", Unit: "EUR"},
			{Key: "wrong", Label: "orders read with a wrong amount, by either reader"},
			{Key: "undone", Label: "orders that a reader has never reported as done"},
			{Key: "refused", Label: "orders with renamed fields, refused before they were sent"},
		},
		Claims: []stage.Claim{{
			Text: "Broken: both readers add up too little.", By: []string{"worth", "amount", "total"},
			Holds: func(was, _ stage.Figures) bool { return max(was.Of("amount"), was.Of("total")) < was.Of("worth") },
		}, {
			Text: "Broken: each reads all orders of the other version wrong, and reports every one as done.", By: []string{"wrong", "undone"},
			Holds: func(was, _ stage.Figures) bool { return was.Of("wrong") == 2*schemaEach && was.Of("undone") == 0 },
		}, {
			Text: "Fixed: all orders with renamed fields are refused, and no reader ever sees one.", By: []string{"refused"},
			Holds: func(_, now stage.Figures) bool { return now.Of("refused") == schemaEach },
		}, {
			Text: "Fixed: with orders of both versions at once, both readers have the right sum, and every order right.", By: []string{"worth", "amount", "total", "wrong", "undone"},
			Holds: func(_, now stage.Figures) bool {
				return now.Of("amount") == now.Of("worth") && now.Of("total") == now.Of("worth") && now.Of("wrong")+now.Of("undone") == 0
			},
		}},
		Try: []string{
			"evdemo schema diff order.created 2 3    # of the schemas that evdemo brings along: what has changed, and whom it breaks",
			`evdemo publish --queue payments --type order.created --data '{"orderId":"order-1","total":100}' --schema builtin    # is refused`,
		},
	}
}

func playSchema(ctx context.Context, s *stage.Stage) error {
	shapes, schemas, publish := []string{`{"order_id":"order-%d","amount":%d}`, `{"orderId":"order-%d","total":%d}`}, "", []string{"publish", "--no-declare"}
	if s.Fixed() {
		shapes, schemas = append(shapes, `{"order_id":"order-%d","amount":%[2]d,"total":%[2]d}`), s.Dir
		publish = append(publish, "--schema", schemas)
	}
	orders, files := map[string]int{}, map[string]string{ // cents by event
		schemaType + ".v1.json": `{"required":["order_id","amount"]}`, schemaType + ".v2.json": `{"required":["order_id","amount","total"]}`,
	}
	for i, shape := range shapes {
		for n := range schemaEach {
			id, cents := fmt.Sprint(i, "-", n), 100*(1+s.Rand.IntN(99)) // whole euros: the sums are shown without cents
			orders[id] = cents
			files[fmt.Sprint(i)] += fmt.Sprintf("{\"event_id\":%q,\"type\":%q,\"version\":%d,\"data\":%s}\n", id, schemaType, min(i, 1)+1, fmt.Sprintf(shape, n, cents))
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(s.Dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := s.Topology(ctx, topology.Spec{Topics: map[string]topology.Topic{"orders": {Queues: []string{"amount", "total"}}}}); err != nil {
		return err
	}
	s.Say("One reader, of version 1, adds up the field amount, and another one, of version 2, adds up the field total. Both are cents.")
	var mu sync.Mutex
	sent, refused, book := map[string]int{}, 0, s.Ledger("orders")
	sums := map[string]map[string]int{"amount": {}, "total": {}} // cents by event, as each reader has read them
	for field, sum := range sums {
		book.Expect("reads "+field, field)
		_, err := s.StartPart(ctx, field, "reader", func(line []byte) {
			var read schemaRead
			_ = json.Unmarshal(line, &read) // which it is
			mu.Lock()
			defer mu.Unlock()
			sum[read.ID] = read.Cents
			book.Effect("reads "+field, field, read.ID)
		}, map[string]string{"queue": s.Name(field), "field": field, "schemas": schemas})
		if err != nil {
			return err
		}
	}
	var programs errgroup.Group
	for i, shape := range shapes {
		s.Say("Program %d is to send %d orders, such as %s.", i+1, schemaEach, fmt.Sprintf(shape, 17+10*i, 4900))
		programs.Go(func() error {
			_, err := s.Do(ctx, append(slices.Clone(publish), "--topic", s.Name("orders"), "--file", filepath.Join(s.Dir, fmt.Sprint(i)))...)
			mu.Lock()
			defer mu.Unlock()
			if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == 2 {
				s.Say("Program %d is refused: evdemo publish --schema ends with exit code 2, and has sent nothing.", i+1)
				refused += schemaEach
				return nil
			}
			for n := range schemaEach {
				id := fmt.Sprint(i, "-", n)
				sent[id] = orders[id]
				book.Attempt(id)
				book.Outcome(id, "confirmed") // says its exit code
			}
			return err
		})
	}
	done := func() int { one, _ := book.Done("reads amount"); two, _ := book.Done("reads total"); return one + two }
	if err := errors.Join(programs.Wait(), s.Settle(ctx, patience, 2*book.Attempts(), done), s.StopAll()); err != nil {
		return err
	}
	readers := book.Account().Consumers
	wrong := 0
	for key, read := range map[string]map[string]int{"worth": sent, "amount": sums["amount"], "total": sums["total"]} {
		sum, differ, unsent := schemaCompare(read, sent)
		s.Measure(key, float64(sum)/100)
		wrong, refused = wrong+differ, refused-unsent
	}
	s.Count("wrong", wrong)
	s.Count("undone", readers[0].Missing+readers[1].Missing)
	s.Count("refused", refused)
	return nil
}
