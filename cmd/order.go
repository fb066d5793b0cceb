package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox"
)

// orderOptions are the flags that keep events in order.
type orderOptions struct {
	orderedBy   string
	causal      string
	causalGroup string
	causalWait  time.Duration
	causalTypes []string
}

func (o *orderOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.orderedBy, "ordered-by", "", "handle events with the same value in order: subject, source, type, an extension, or a member of the data as data.order_id")
	flags.StringVar(&o.causal, "causal", "", "SQLite file, or postgres://user@host/name, that holds events back until their parents have been handled")
	flags.StringVar(&o.causalGroup, "causal-group", "", "name of the consumers that --causal keeps in order together (default: the queue)")
	flags.DurationVar(&o.causalWait, "causal-wait", worker.DefaultGateWait, "how long --causal holds an event, before it is dead-lettered as an orphan")
	flags.StringSliceVar(&o.causalTypes, "causal-types", nil, "event types that the group handles; --causal waits for parents of no others (default: for all)")
}

func (o *orderOptions) check(given func(string) bool) error {
	for _, flag := range []string{"causal-group", "causal-wait", "causal-types"} {
		if given(flag) && o.causal == "" {
			return fmt.Errorf("--%s goes with --causal", flag)
		}
	}
	switch {
	case given("ordered-by") && o.orderedBy == "":
		return errors.New("--ordered-by is empty: want subject, source, type, an extension, or data.NAME")
	case given("causal") && o.causal == "":
		return errors.New("--causal is empty: want a file, or postgres://user@host/name")
	case o.causal == "memory":
		return errors.New("--causal memory: what is held must survive the process; give a file, or ./memory if it is called so")
	case o.causalWait < time.Millisecond:
		return fmt.Errorf("--causal-wait %v: want 1ms or more", o.causalWait)
	}
	_, err := orderKey(o.orderedBy)
	return errors.Join(checkInbox("--causal", o.causal), err)
}

// orderKey gives the function for --ordered-by; nil for none.
func orderKey(by string) (func(*worker.Delivery) string, error) {
	switch by {
	case "":
		return nil, nil //nolint:nilnil // no order
	case "subject":
		return func(d *worker.Delivery) string { return d.Event.Subject }, nil
	case "source":
		return func(d *worker.Delivery) string { return d.Event.Source }, nil
	case "type":
		return func(d *worker.Delivery) string { return d.Event.Type }, nil
	}
	if path, ok := strings.CutPrefix(by, "data"); ok {
		names := strings.Split(path, ".")[1:]
		if len(names) == 0 || slices.Contains(names, "") || path[0] != '.' {
			return nil, fmt.Errorf("--ordered-by %.40q: want data.NAME, or data.NAME.NAME", by)
		}
		return func(d *worker.Delivery) string { return member(d.Event.Data, names) }, nil
	}
	if strings.Trim(by, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return nil, fmt.Errorf("--ordered-by %.40q: want subject, source, type, an extension, or data.NAME", by)
	}
	return func(d *worker.Delivery) string { return d.Event.Extension(by) }, nil
}

// member is the text of a member of JSON, "" where there is none: such an event has no key.
func member(data []byte, path []string) string {
	for _, name := range path {
		var object map[string]json.RawMessage
		if json.Unmarshal(data, &object) != nil {
			return ""
		}
		data = object[name]
	}
	var text string
	if json.Unmarshal(data, &text) == nil {
		return text
	}
	return string(data)
}

// gate opens the gate that the flags ask for; nil where they ask for none.
func (o *orderOptions) gate(ctx context.Context, app *App) (*worker.Gate, func() error, error) {
	if o.causal == "" {
		return nil, func() error { return nil }, nil
	}
	store, err := openInbox(ctx, app, "--causal", o.causal, inbox.DefaultLease)
	if err != nil {
		return nil, nil, err
	}
	return &worker.Gate{Store: store, Group: o.causalGroup, Types: o.causalTypes, Wait: o.causalWait}, store.Close, nil
}
