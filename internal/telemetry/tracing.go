package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// flushLimit bounds the wait for a collector that does not answer when the program ends.
const flushLimit = 5 * time.Second

// The variables that decide whether and how there is tracing. All others of OpenTelemetry's are read
// by its SDK.
const (
	envDisabled       = "OTEL_SDK_DISABLED"
	envExporter       = "OTEL_TRACES_EXPORTER"
	envEndpoint       = "OTEL_EXPORTER_OTLP_ENDPOINT"
	envTracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	envProtocol       = "OTEL_EXPORTER_OTLP_PROTOCOL"
	envTracesProtocol = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
)

// The protocols of OTLP that are spoken, as the variables name them.
const (
	protocolHTTP = "http/protobuf"
	protocolGRPC = "grpc"
)

// Tracer gives a provider that exports spans over OTLP where the environment asks for it, and nil
// where it does not: by OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, or by
// OTEL_TRACES_EXPORTER=otlp, which then means a collector on this machine. OTEL_SDK_DISABLED=true and
// OTEL_TRACES_EXPORTER=none turn it off all the same. The protocol is http/protobuf, or grpc by
// OTEL_EXPORTER_OTLP_PROTOCOL or OTEL_EXPORTER_OTLP_TRACES_PROTOCOL. Anything else that these
// variables say is an error that names the variable.
//
// Service and version describe this process unless OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES do.
// Sampling, batching, headers, certificates and limits are those of the SDK's own variables, which it
// reads from the process's environment and not through lookupEnv.
//
// Spans are exported in batches in the background, and dropped where a collector does not keep up or
// is away: nothing waits for it. What goes wrong with that is logged, once for each cause. This is
// the one place that sets the SDK's error handler and logger, which are global.
//
// Shutdown exports what there is and waits for that up to 5 s, or until its context ends. It is never
// nil; where nothing is traced it does nothing.
func Tracer(
	ctx context.Context, lookupEnv func(string) (string, bool), service, version string, log *slog.Logger,
) (provider trace.TracerProvider, shutdown func(context.Context) error, err error) {
	nothing := func(context.Context) error { return nil }
	settings, err := readSettings(lookupEnv)
	if err != nil {
		return nil, nothing, fmt.Errorf("set up tracing: %w", err)
	}
	if !settings.on {
		return nil, nothing, nil
	}
	logFaults(log)
	described, err := resource.New(ctx,
		resource.WithAttributes(semconv.ServiceName(service), semconv.ServiceVersion(version)),
		resource.WithTelemetrySDK(),
		resource.WithFromEnv(), // the last has the last word
	)
	if err != nil {
		return nil, nothing, fmt.Errorf("set up tracing: read OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	exporter, err := newExporter(ctx, settings)
	if err != nil {
		return nil, nothing, fmt.Errorf("set up tracing: %w", err)
	}
	tracing := sdktrace.NewTracerProvider(sdktrace.WithResource(described), sdktrace.WithBatcher(exporter))
	return tracing, func(ctx context.Context) error { return flush(ctx, tracing, exporter) }, nil
}

// flush ends a provider. An export that is under way when the time is up is given up, so that
// nothing of it is left behind.
func flush(ctx context.Context, tracing *sdktrace.TracerProvider, e *exporter) error {
	ctx, cancel := context.WithTimeout(ctx, flushLimit)
	defer cancel()
	defer e.giveUp()
	if err := tracing.Shutdown(ctx); err != nil {
		return fmt.Errorf("export the last spans: %w", err)
	}
	return nil
}

// exporter is a span exporter that can be told to give up. The SDK's own waits for a collector for
// as long as its timeout says, whatever becomes of who waits for it.
type exporter struct {
	sdktrace.SpanExporter
	ending context.Context
	giveUp context.CancelFunc
}

func newExporter(ctx context.Context, s settings) (*exporter, error) {
	e := &exporter{}
	e.ending, e.giveUp = context.WithCancel(context.WithoutCancel(ctx))
	var err error
	if s.protocol == protocolGRPC {
		e.SpanExporter, err = otlptrace.New(ctx, otlptracegrpc.NewClient(s.grpcOptions()...))
	} else {
		e.SpanExporter, err = otlptrace.New(ctx, otlptracehttp.NewClient(s.httpOptions()...))
	}
	if err != nil {
		e.giveUp()
		return nil, err
	}
	return e, nil
}

// ExportSpans implements sdktrace.SpanExporter.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.ending, cancel)() //nolint:contextcheck // the end of the program, not of this export
	return e.SpanExporter.ExportSpans(ctx, spans)
}

// settings is what the environment asks for.
type settings struct {
	on       bool
	protocol string
	endpoint string // empty where none is given
}

func readSettings(lookupEnv func(string) (string, bool)) (settings, error) {
	get := func(names ...string) (name, value string) {
		for _, name = range names {
			value, _ = lookupEnv(name)
			if value = strings.TrimSpace(value); value != "" { // empty means not set
				return name, value
			}
		}
		return name, ""
	}
	if _, disabled := get(envDisabled); strings.EqualFold(disabled, "true") {
		return settings{}, nil
	}
	_, asked := get(envExporter)
	endpointName, endpoint := get(envTracesEndpoint, envEndpoint)
	switch asked {
	case "none":
		return settings{}, nil
	case "":
		if endpoint == "" {
			return settings{}, nil
		}
	case "otlp":
	default:
		return settings{}, fmt.Errorf("%s=%q: spans are exported by otlp, or not at all by none", envExporter, asked)
	}
	s := settings{on: true, protocol: protocolHTTP, endpoint: endpoint}
	var errs []error
	if name, protocol := get(envTracesProtocol, envProtocol); protocol != "" {
		if s.protocol = protocol; protocol != protocolHTTP && protocol != protocolGRPC {
			errs = append(errs, fmt.Errorf("%s=%q: use %s or %s", name, protocol, protocolHTTP, protocolGRPC))
		}
	}
	errs = append(errs, checkEndpoint(endpointName, endpoint))
	return s, errors.Join(errs...)
}

// checkEndpoint finds what the SDK would make no use of, and say nothing.
func checkEndpoint(name, endpoint string) error {
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil:
		return fmt.Errorf("%s is no URL", name) // which may hold a password
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("%s=%q: use a URL such as http://localhost:4318", name, u.Redacted())
	default:
		return nil
	}
}

// httpOptions and grpcOptions give the defaults of OTLP's specification, a collector on this machine
// without TLS, where the environment names none; the SDK would use TLS.
func (s settings) httpOptions() []otlptracehttp.Option {
	if s.endpoint != "" {
		return nil
	}
	return []otlptracehttp.Option{otlptracehttp.WithEndpointURL("http://localhost:4318/v1/traces")}
}

func (s settings) grpcOptions() []otlptracegrpc.Option {
	if s.endpoint != "" {
		return nil
	}
	return []otlptracegrpc.Option{otlptracegrpc.WithEndpointURL("http://localhost:4317")}
}

// logFaults has the SDK report to a logger, instead of standard error.
func logFaults(log *slog.Logger) {
	f := newFaults(log)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(f.handle))
	otel.SetLogger(f.logger())
}
