package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/telemetry"
	"github.com/evdemo/evdemo/worker"
)

// environment gives a lookup for variables that are not the process's own.
func environment(variables map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := variables[name]
		return value, ok
	}
}

func TestTracerIsOffUnlessAskedFor(t *testing.T) {
	t.Parallel()
	endpoint := "http://127.0.0.1:1"
	for name, variables := range map[string]map[string]string{
		"nothing":             {},
		"empty endpoint":      {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
		"only a protocol":     {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
		"only a service name": {"OTEL_SERVICE_NAME": "shop"},
		"disabled":            {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_SDK_DISABLED": "TRUE"},
		"no exporter":         {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_TRACES_EXPORTER": "none"},
		"disabled, and wrong": {"OTEL_TRACES_EXPORTER": "zipkin", "OTEL_SDK_DISABLED": "true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, text := newLog()
			provider, shutdown, err := telemetry.Tracer(t.Context(), environment(variables), "evdemo", "1", log)
			require.NoError(t, err)
			assert.Nil(t, provider)
			require.NoError(t, shutdown(t.Context()))
			assert.Empty(t, text.String())
		})
	}
}

func TestTracerRefuses(t *testing.T) {
	t.Parallel()
	endpoint := "http://127.0.0.1:1"
	for name, variables := range map[string]map[string]string{
		"OTEL_TRACES_EXPORTER":                {"OTEL_TRACES_EXPORTER": "zipkin"},
		"OTEL_EXPORTER_OTLP_PROTOCOL":         {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
		"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL":  {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "carrier pigeon"},
		"OTEL_EXPORTER_OTLP_ENDPOINT":         {"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"},
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT":  {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "ftp://me:secret@example.com"},
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ": {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://me:secret@example.com:port"},
		"OTEL_EXPORTER_OTLP_ENDPOINT ":        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http:///v1/traces"},
	} {
		log, _ := newLog()
		provider, shutdown, err := telemetry.Tracer(t.Context(), environment(variables), "evdemo", "1", log)
		require.ErrorContains(t, err, strings.TrimSpace(name))
		assert.NotContains(t, err.Error(), "secret")
		assert.Nil(t, provider)
		require.NoError(t, shutdown(t.Context()))
	}
}

// received is what a collector got.
type received struct {
	path string
	*collector.ExportTraceServiceRequest
}

// httpCollector takes spans as a collector does.
func httpCollector(t *testing.T) (url string, got <-chan received) {
	t.Helper()
	requests := make(chan received, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request := received{r.URL.Path, &collector.ExportTraceServiceRequest{}}
		body, err := io.ReadAll(r.Body)
		if err != nil || proto.Unmarshal(body, request) != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		requests <- request
	}))
	t.Cleanup(server.Close)
	return server.URL, requests
}

// grpcCollector is one that speaks gRPC.
type grpcCollector struct {
	collector.UnimplementedTraceServiceServer
	requests chan received
}

func (c *grpcCollector) Export(_ context.Context, r *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	c.requests <- received{"", r}
	return &collector.ExportTraceServiceResponse{}, nil
}

func newGRPCCollector(t *testing.T) (url string, got <-chan received) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c := &grpcCollector{requests: make(chan received, 100)}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, c)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		assert.NoError(t, <-served)
	})
	return "http://" + listener.Addr().String(), c.requests
}

// newTracer gives the provider for the process's environment. That is what the SDK reads too, so tests
// that set it run one after the other.
func newTracer(t *testing.T) (trace.TracerProvider, func(context.Context) error, *logged) {
	t.Helper()
	log, text := newLog()
	provider, shutdown, err := telemetry.Tracer(t.Context(), os.LookupEnv, "evdemo", "1.2.3", log)
	require.NoError(t, err)
	require.NotNil(t, provider)
	t.Cleanup(func() { _ = shutdown(context.Background()) })
	return provider, shutdown, text
}

func attributes(of []*commonpb.KeyValue) map[string]string {
	values := make(map[string]string, len(of))
	for _, a := range of {
		values[a.Key] = a.Value.GetStringValue()
	}
	return values
}

// spans gives all spans of a request, and the attributes of what they are from.
func spans(r received) (all []*tracepb.Span, from map[string]string) {
	for _, of := range r.ResourceSpans {
		from = attributes(of.Resource.Attributes)
		for _, scope := range of.ScopeSpans {
			all = append(all, scope.Spans...)
		}
	}
	return all, from
}

// handleOne has a worker's tracing handle an event that some span has published.
func handleOne(t *testing.T, provider trace.TracerProvider) {
	t.Helper()
	e, err := event.New("order.created", "test", nil)
	require.NoError(t, err)
	e = e.WithExtension(event.ExtTraceParent, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	handle := worker.Wrap(func(context.Context, *worker.Delivery) error { return nil }, worker.Tracing(provider))
	require.NoError(t, handle(t.Context(), &worker.Delivery{Event: e, Queue: "payments", Attempt: 1}))
}

func checkExported(t *testing.T, got <-chan received, path, service string) {
	t.Helper()
	require.Len(t, got, 1)
	request := <-got
	assert.Equal(t, path, request.path)
	all, from := spans(request)
	require.Len(t, all, 1)
	assert.Equal(t, "process payments", all[0].Name)
	assert.Equal(t, tracepb.Span_SPAN_KIND_CONSUMER, all[0].Kind)
	require.Len(t, all[0].Links, 1)
	assert.Equal(t, "4bf92f3577b34da6a3ce929d0e0e4736", fmt.Sprintf("%x", all[0].Links[0].TraceId))
	assert.Equal(t, "rabbitmq", attributes(all[0].Attributes)["messaging.system"])
	assert.Equal(t, service, from["service.name"])
	assert.Equal(t, "1.2.3", from["service.version"])
	assert.Equal(t, "go", from["telemetry.sdk.language"])
}

func TestTracerExportsOverHTTP(t *testing.T) {
	url, got := httpCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
	provider, shutdown, text := newTracer(t)
	handleOne(t, provider)
	require.NoError(t, shutdown(t.Context()))
	checkExported(t, got, "/v1/traces", "evdemo")
	assert.Empty(t, text.String())
}

func TestTracerHeedsTheEnvironment(t *testing.T) {
	url, got := httpCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url+"/elsewhere")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	t.Setenv("OTEL_SERVICE_NAME", "shop")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=not this,host.name=here")
	provider, shutdown, text := newTracer(t)
	handleOne(t, provider)
	require.NoError(t, shutdown(t.Context()))
	checkExported(t, got, "/elsewhere", "shop")
	assert.Empty(t, text.String())
}

func TestTracerExportsOverGRPC(t *testing.T) {
	url, got := newGRPCCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	provider, shutdown, text := newTracer(t)
	handleOne(t, provider)
	require.NoError(t, shutdown(t.Context()))
	checkExported(t, got, "", "evdemo")
	assert.Empty(t, text.String())
}

func TestTracerHeedsTheSampler(t *testing.T) {
	url, got := httpCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	provider, shutdown, _ := newTracer(t)
	handleOne(t, provider)
	require.NoError(t, shutdown(t.Context()))
	assert.Empty(t, got)
}

func TestTracerRefusesResourceAttributes(t *testing.T) {
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "no value")
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	log, _ := newLog()
	_, _, err := telemetry.Tracer(t.Context(), os.LookupEnv, "evdemo", "1", log)
	assert.ErrorContains(t, err, "OTEL_RESOURCE_ATTRIBUTES")
}

// freePort is an address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().String()
}

func TestCollectorIsAway(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+freePort(t))
	t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1") // one export for each span
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "novalue-secret")
	provider, shutdown, text := newTracer(t)
	for range 20 {
		handleOne(t, provider)
	}
	began := time.Now()
	require.NoError(t, shutdown(t.Context()))
	assert.Less(t, time.Since(began), patience)
	assert.Equal(t, 1, strings.Count(text.String(), "connection refused"), "%s", text)
	assert.Equal(t, 1, strings.Count(text.String(), "parse headers"), "%s", text)
	assert.NotContains(t, text.String(), "secret")
}

func TestCollectorIsSilent(t *testing.T) {
	for _, protocol := range []string{"http/protobuf", "grpc"} {
		t.Run(protocol, func(t *testing.T) {
			listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer listener.Close() // it takes connections, and never answers
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+listener.Addr().String())
			t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
			provider, shutdown, _ := newTracer(t)
			handleOne(t, provider)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			began := time.Now()
			require.ErrorIs(t, shutdown(ctx), context.DeadlineExceeded)
			assert.Less(t, time.Since(began), 4*time.Second)
		})
	}
}

func TestShutdownIsBounded(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+listener.Addr().String())
	provider, shutdown, _ := newTracer(t)
	handleOne(t, provider)
	began := time.Now()
	require.ErrorIs(t, shutdown(t.Context()), context.DeadlineExceeded)
	assert.Less(t, time.Since(began), 9*time.Second, "the exporter's own limit is 10 s")
}

func TestEachCauseIsToldOnce(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	_, _, text := newTracer(t)
	base := errors.New("no route")
	for i := range 10 {
		otel.Handle(fmt.Errorf("from port %d: %w", i, base))
		otel.Handle(errors.Join(fmt.Errorf("also from port %d: %w", i, base)))
	}
	assert.Equal(t, 1, strings.Count(text.String(), "no route"), "%s", text)
	for i := range 100 {
		otel.Handle(fmt.Errorf("another one: %d", i))
	}
	lines := strings.Count(text.String(), "\n")
	assert.Greater(t, lines, 10)
	assert.LessOrEqual(t, lines, 16)
}
