package command_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/command"
)

// patience bounds every wait for a command.
const patience = 30 * time.Second

// showEnvironment makes the test program a command that writes its environment as JSON.
const showEnvironment = "show-environment"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == showEnvironment {
		os.Exit(writeEnvironment())
	}
	// What an enclosing command has been told of its event.
	for _, name := range []string{
		"EVDEMO_ID", "EVDEMO_SUBJECT", "EVDEMO_TIME", "EVDEMO_DATASCHEMA", "EVDEMO_DATACONTENTTYPE", "EVDEMO_REDELIVERED",
		"EVDEMO_EXT_STALE", "EVDEMO_HEADER_STALE", "TRACEPARENT", "TRACESTATE",
	} {
		if err := os.Setenv(name, "stale"); err != nil {
			panic(err)
		}
	}
	if err := os.Setenv("EVDEMO_URL", "kept"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// writeEnvironment writes name and value of each variable, as bytes: not all are UTF-8.
func writeEnvironment() int {
	variables := map[string][]byte{}
	for _, entry := range os.Environ() {
		name, value, _ := strings.Cut(entry, "=")
		variables[name] = []byte(value)
	}
	if err := json.NewEncoder(os.Stdout).Encode(variables); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func newRunner(t *testing.T, config command.Config) *command.Runner {
	t.Helper()
	r, err := command.New(config)
	require.NoError(t, err)
	return r
}

// script is a runner of a shell script.
func script(t *testing.T, text string) *command.Runner {
	t.Helper()
	return newRunner(t, command.Config{Command: text, Shell: true})
}

// delivery is an event with data, as it arrives.
func delivery(t *testing.T, data []byte) *worker.Delivery {
	t.Helper()
	e, err := event.New("order.created", "test", json.RawMessage(data))
	require.NoError(t, err)
	return &worker.Delivery{Event: e, Queue: "payments", Attempt: 1}
}

// within calls handle and fails where that takes longer than limit.
func within(t *testing.T, limit time.Duration, handle func(ctx context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, fmt.Errorf("the command did not end within %v", patience))
	defer cancel()
	begin := time.Now()
	err := handle(ctx)
	require.NoError(t, context.Cause(ctx))
	require.Less(t, time.Since(begin), limit)
	return err
}

// handle runs a command for an event with data, with patience.
func handle(t *testing.T, r *command.Runner, data []byte) error {
	t.Helper()
	d := delivery(t, data)
	return within(t, patience, func(ctx context.Context) error { return r.Handle(ctx, d) })
}

// commandError gives the failure that err is.
func commandError(t *testing.T, err error) *worker.CommandError {
	t.Helper()
	var failure *worker.CommandError
	require.ErrorAs(t, err, &failure)
	return failure
}

// permanent tells whether err keeps its event from being tried again.
func permanent(err error) bool {
	return fmt.Sprintf("%T", err) == fmt.Sprintf("%T", worker.Permanent(context.Canceled))
}
