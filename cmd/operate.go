package cmd

import (
	"context"
	"errors"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"go.opentelemetry.io/otel/trace"

	"github.com/evdemo/evdemo/internal/telemetry"
	"github.com/evdemo/evdemo/worker"
)

// operateOptions are the flags of commands that others watch.
type operateOptions struct {
	metricsAddr string
}

func (o *operateOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.metricsAddr, "metrics-addr", "", "serve Prometheus metrics, /healthz and /readyz on this HOST:PORT (default: off)")
}

// watched is what lets others watch a command.
type watched struct {
	// tracer is nil unless the OTEL_ variables ask for traces.
	tracer trace.TracerProvider
	// metrics is nil unless there is an address to serve them on.
	metrics *prometheus.Registry

	addr   string
	log    *slog.Logger
	server *telemetry.Server
	flush  func(context.Context) error
}

// watch prepares traces and metrics. What it returns must be closed.
func (o *operateOptions) watch(ctx context.Context, app *App) (*watched, error) {
	w := &watched{addr: o.metricsAddr, log: app.Logger()}
	var err error
	w.tracer, w.flush, err = telemetry.Tracer(ctx, app.LookupEnv, "evdemo", buildVersion(), w.log)
	if err != nil {
		return nil, usageError(err)
	}
	if w.addr != "" {
		w.metrics = telemetry.NewRegistry()
	}
	return w, nil
}

// worker makes a worker whose attempts are traced and measured.
func (w *watched) worker(config worker.Config, handler worker.Handler) (*worker.Worker, error) {
	var around []worker.Middleware
	if w.metrics != nil {
		measured, err := worker.Metrics(w.metrics)
		if err != nil {
			return nil, err
		}
		around = append(around, measured)
	}
	if w.tracer != nil {
		around = append(around, worker.Tracing(w.tracer))
	}
	return worker.New(config, worker.Wrap(handler, around...))
}

// serve serves what collectors have, and whether the command is ready.
func (w *watched) serve(ctx context.Context, ready func() bool, collectors ...prometheus.Collector) error {
	if w.metrics == nil {
		return nil
	}
	for _, c := range collectors {
		if err := w.metrics.Register(c); err != nil {
			return err
		}
	}
	var err error
	if w.server, err = telemetry.Serve(ctx, w.addr, w.metrics, ready, w.log); err != nil {
		return usageError(err)
	}
	w.log.Info("serving metrics", slog.String("url", "http://"+w.server.Addr().String()+"/metrics"))
	return nil
}

// close sends the traces that are left. Their loss is no failure of the command.
func (w *watched) close(ctx context.Context) {
	var err error
	if w.server != nil {
		err = w.server.Close() //nolint:contextcheck // it has a limit of its own
	}
	if err = errors.Join(err, w.flush(context.WithoutCancel(ctx))); err != nil {
		w.log.Warn("not all was passed on to those who watch", slog.Any("error", err))
	}
}
