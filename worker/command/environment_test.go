package command_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/command"
)

// environment runs a command and gives the variables that tell it of its event.
func environment(ctx context.Context, t *testing.T, d *worker.Delivery) map[string]string {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	var out bytes.Buffer
	r := newRunner(t, command.Config{Command: "'" + program + "' " + showEnvironment, Stdout: &out})
	require.NoError(t, r.Handle(ctx, d))
	var all map[string][]byte
	require.NoError(t, json.Unmarshal(out.Bytes(), &all))
	assert.Equal(t, "kept", string(all["EVDEMO_URL"]))
	assert.Equal(t, os.Getenv("PATH"), string(all["PATH"]))
	variables := map[string]string{}
	for name, value := range all {
		if command.EventVariable(name) {
			variables[name] = string(value)
		}
	}
	return variables
}

// amqp-consume does not give headers and properties to the command (rabbitmq-c#827).
func TestHeadersAndPropertiesReachTheCommand(t *testing.T) {
	t.Parallel()
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	d := &worker.Delivery{
		Event: event.Event{
			ID: "1", Source: "orders", Type: "order.created", Subject: "order 4711",
			Time:            time.Date(2025, 11, 11, 17, 54, 0, 5, time.FixedZone("CET", 3600)),
			DataContentType: "application/json", DataSchema: "https://example.com/a",
			Extensions: map[string]any{
				event.ExtCorrelationID: "c", "num": int32(-7), "bin": []byte("hi"), "empty": "",
				event.ExtTraceParent: parent, "tracestate": "vendor=1",
			},
		},
		Queue: "payments", Attempt: 3, Redelivered: true,
		Headers: map[string]any{
			"tenant": "a", "Content-Language": "de", "x.y": int64(5), "ok": true, "none": nil, "list": []any{"<&>", int32(1)},
			"table": map[string]any{"b": 1.5, "a": nil}, "bytes": []byte("hi"), "at": time.Unix(0, 0).UTC(), "empty": "",
			"infinite": math.Inf(1), "é": "bytes of a name",
		},
	}
	assert.Equal(t, map[string]string{
		"EVDEMO_ID": "1", "EVDEMO_SOURCE": "orders", "EVDEMO_TYPE": "order.created", "EVDEMO_SUBJECT": "order 4711",
		"EVDEMO_TIME": "2025-11-11T16:54:00.000000005Z", "EVDEMO_DATACONTENTTYPE": "application/json",
		"EVDEMO_DATASCHEMA": "https://example.com/a",
		"EVDEMO_ATTEMPT":    "3", "EVDEMO_REDELIVERED": "true", "EVDEMO_QUEUE": "payments",
		"EVDEMO_EXT_CORRELATIONID": "c", "EVDEMO_EXT_NUM": "-7", "EVDEMO_EXT_BIN": "aGk=", "EVDEMO_EXT_EMPTY": "",
		"EVDEMO_EXT_TRACEPARENT": parent, "EVDEMO_EXT_TRACESTATE": "vendor=1", "TRACEPARENT": parent, "TRACESTATE": "vendor=1",
		"EVDEMO_HEADER_TENANT": "a", "EVDEMO_HEADER_CONTENT_LANGUAGE": "de", "EVDEMO_HEADER_X_Y": "5", "EVDEMO_HEADER_OK": "true",
		"EVDEMO_HEADER_NONE": "null", "EVDEMO_HEADER_LIST": `["<&>",1]`, "EVDEMO_HEADER_TABLE": `{"a":null,"b":1.5}`,
		"EVDEMO_HEADER_BYTES": `"aGk="`, "EVDEMO_HEADER_AT": `"1970-01-01T00:00:00Z"`, "EVDEMO_HEADER_EMPTY": "",
		"EVDEMO_HEADER___": "bytes of a name",
	}, environment(t.Context(), t, d))
}

// What an event lacks must not come from the command that this process is run by.
func TestAbsentAttributesDoNotLeakIn(t *testing.T) {
	t.Parallel()
	require.Equal(t, "stale", os.Getenv("EVDEMO_SUBJECT"))
	assert.Equal(t, map[string]string{
		"EVDEMO_ID": "1", "EVDEMO_SOURCE": "s", "EVDEMO_TYPE": "t",
		"EVDEMO_ATTEMPT": "1", "EVDEMO_REDELIVERED": "false", "EVDEMO_QUEUE": "q",
	}, environment(t.Context(), t, &worker.Delivery{Event: event.Event{ID: "1", Source: "s", Type: "t"}, Queue: "q", Attempt: 1}))
}

func TestTheSpanOfTheAttemptCounts(t *testing.T) {
	t.Parallel()
	state, err := trace.ParseTraceState("ours=2")
	require.NoError(t, err)
	span := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, TraceState: state,
	})
	d := delivery(t, nil)
	d.Event = d.Event.WithExtension(event.ExtTraceParent, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	variables := environment(trace.ContextWithSpanContext(t.Context(), span), t, d)
	assert.Equal(t, "00-01000000000000000000000000000000-0200000000000000-01", variables["TRACEPARENT"])
	assert.Equal(t, "ours=2", variables["TRACESTATE"])

	d.Event = d.Event.WithExtension(event.ExtTraceParent, "nonsense")
	assert.NotContains(t, environment(t.Context(), t, d), "TRACEPARENT")
}

// What would keep every attempt from being started is left out, and the rest arrives as it is.
func TestHostileValues(t *testing.T) {
	t.Parallel()
	d := delivery(t, nil)
	d.Event.Subject = "line one\nEVDEMO_TYPE=forged\n$(id) `id` \"'\\"
	d.Event.Extensions = map[string]any{"nul": "a\x00b", "latin": "caf\xe9", strings.Repeat("x", 200<<10): "long name"}
	d.Headers = map[string]any{
		"huge": strings.Repeat("x", 200<<10), "most": strings.Repeat("x", 64<<10), "more": strings.Repeat("x", 64<<10+1),
		"a=b\x00c": "name", "nul": []any{"\x00"}, "text": "plain",
	}
	variables := environment(t.Context(), t, d)
	assert.Equal(t, d.Event.Subject, variables["EVDEMO_SUBJECT"])
	assert.Equal(t, "order.created", variables["EVDEMO_TYPE"])
	assert.Equal(t, "caf\xe9", variables["EVDEMO_EXT_LATIN"])
	assert.Equal(t, "name", variables["EVDEMO_HEADER_A_B_C"])
	assert.Equal(t, `["\u0000"]`, variables["EVDEMO_HEADER_NUL"])
	assert.Equal(t, "plain", variables["EVDEMO_HEADER_TEXT"])
	assert.Len(t, variables["EVDEMO_HEADER_MOST"], 64<<10)
	for _, name := range []string{"EVDEMO_EXT_NUL", "EVDEMO_HEADER_HUGE", "EVDEMO_HEADER_MORE"} {
		assert.NotContains(t, variables, name)
	}
}

// All of them together must not be too much either; attributes come first.
func TestManyHugeValues(t *testing.T) {
	t.Parallel()
	d := delivery(t, nil)
	d.Headers = map[string]any{}
	d.Event.Extensions = map[string]any{}
	for i := range 200 {
		d.Headers[fmt.Sprintf("h%03d", i)] = strings.Repeat("h", 60<<10)
		d.Event.Extensions[fmt.Sprintf("e%03d", i)] = strings.Repeat("e", 60<<10)
	}
	for i := range 2000 {
		d.Headers["small"+strconv.Itoa(i)] = "x"
	}
	variables := environment(t.Context(), t, d)
	assert.Equal(t, d.Event.ID, variables["EVDEMO_ID"])
	assert.Contains(t, variables, "EVDEMO_EXT_E000")
	assert.NotContains(t, variables, "EVDEMO_HEADER_H000")
	assert.Contains(t, variables, "EVDEMO_HEADER_SMALL0")
}

// Two headers may come to one name; which of them counts must not change from one attempt to the next.
func TestHeadersWithOneName(t *testing.T) {
	t.Parallel()
	d := delivery(t, nil)
	d.Headers = map[string]any{"a-b": "1", "a_b": "2", "a.b": "3", "A-B": "4"}
	for range 5 {
		assert.Equal(t, "2", environment(t.Context(), t, d)["EVDEMO_HEADER_A_B"])
	}
}

func TestEventVariable(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"EVDEMO_TYPE": true, "EVDEMO_QUEUE": true, "EVDEMO_EXT_X": true, "EVDEMO_HEADER_X": true, "TRACEPARENT": true,
		"EVDEMO_URL": false, "EVDEMO_HEADER": false, "EVDEMO_MAX_ATTEMPTS": false, "TYPE": false, "": false, "EVDEMO_": false,
	} {
		assert.Equal(t, want, command.EventVariable(name), name)
	}
	assert.False(t, command.Inside())
}
