package tracecontext_test

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/telemetry/tracecontext"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

func newEvent(t require.TestingT) event.Event {
	e, err := event.New("order.created", "test", nil)
	require.NoError(t, err)
	return e
}

func TestOf(t *testing.T) {
	t.Parallel()
	e := newEvent(t)
	assert.False(t, tracecontext.Of(e).IsValid())

	e = e.WithExtension(event.ExtTraceParent, parent).WithExtension("tracestate", "vendor=1")
	span := tracecontext.Of(e)
	assert.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", span.TraceID().String())
	assert.Equal(t, "00f067aa0ba902b7", span.SpanID().String())
	assert.True(t, span.IsSampled())
	assert.True(t, span.IsRemote())
	assert.Equal(t, "vendor=1", span.TraceState().String())
}

func TestOfWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, value := range []any{
		"", "00", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", parent + "-more", "ff" + parent[2:],
		int32(7), true, []byte(parent),
	} {
		e := newEvent(t).WithExtension(event.ExtTraceParent, value)
		assert.False(t, tracecontext.Of(e).IsValid(), "traceparent %v", value)
	}
}

// What With writes Of reads, the event that was given stays as it is, and nothing of an earlier
// span is left.
func TestWithAndOf(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := newEvent(t)
		for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"tracestate", "traceparent", "partitionkey"}), rapid.ID).Draw(t, "extensions") {
			e = e.WithExtension(name, rapid.SampledFrom([]string{parent, "vendor=1", "x"}).Draw(t, name))
		}
		before := maps.Clone(e.Extensions)
		span := drawSpan(t)

		with := tracecontext.With(e, span)

		assert.Equal(t, before, e.Extensions)
		if !span.IsValid() {
			assert.Equal(t, e, with)
			return
		}
		assert.True(t, span.WithRemote(true).Equal(tracecontext.Of(with)), "%v became %v", span, tracecontext.Of(with))
		require.NoError(t, with.Validate())
		assert.Equal(t, e.Extension("partitionkey"), with.Extension("partitionkey"))
	})
}

func drawSpan(t *rapid.T) trace.SpanContext {
	config := trace.SpanContextConfig{TraceFlags: trace.TraceFlags(rapid.SampledFrom([]byte{0, 1}).Draw(t, "flags"))}
	if rapid.Bool().Draw(t, "valid") {
		copy(config.TraceID[:], rapid.SliceOfN(rapid.ByteRange(1, 255), 16, 16).Draw(t, "trace"))
		copy(config.SpanID[:], rapid.SliceOfN(rapid.ByteRange(1, 255), 8, 8).Draw(t, "span"))
	}
	if rapid.Bool().Draw(t, "state") {
		config.TraceState, _ = trace.ParseTraceState("ours=2,vendor=3")
	}
	return trace.NewSpanContext(config)
}
