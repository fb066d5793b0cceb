package system

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/evdemo/evdemo/internal/shop/sink"
)

// SinkNames are the sinks of every shop. Two more are there where somebody asks for them: webhooks, and the cache.
func SinkNames() []string {
	return []string{sink.LakeName, sink.AnalyticsName, sink.SearchName, sink.CRMName}
}

// SinkConfig says which sinks to open. Places is required.
type SinkConfig struct {
	sink.Places
	// Names are the sinks to open: some of SinkNames, webhooks and cache.
	Names []string
	// AnalyticsDB is a PostgreSQL database for the sums of analytics. Default: a file in the folder.
	AnalyticsDB string
	// CRMURL is where the CRM is. Default: a stand-in, on loopback, with its customers in the folder.
	CRMURL string
	// CacheURL is the Redis that the cache invalidates orders in.
	CacheURL string
	// Receivers are those whom webhooks tell.
	Receivers []sink.Receiver
	// Logger is told what does not go well in the background. Default: nothing is logged.
	Logger *slog.Logger
}

// Sinks are open sinks.
type Sinks struct {
	All []sink.Sink

	run   []func(context.Context) error
	after []func(context.Context) error // to be closed behind them
}

// OpenSinks opens sinks. They are to be closed.
func OpenSinks(ctx context.Context, config SinkConfig) (*Sinks, error) {
	sinks := &Sinks{}
	if len(config.Names) == 0 {
		return sinks, nil
	}
	if err := os.MkdirAll(config.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("folder of the sinks: %w", err)
	}
	for _, name := range config.Names {
		one, err := config.open(ctx, sinks, name)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", name, err), sinks.Close(ctx))
		}
		sinks.All = append(sinks.All, one)
	}
	return sinks, nil
}

func (c *SinkConfig) open(ctx context.Context, sinks *Sinks, name string) (sink.Sink, error) {
	switch name {
	case sink.LakeName:
		return orNothing(sink.OpenLake(ctx, sink.LakeConfig{Dir: c.Lake(), Logger: c.Logger}))
	case sink.AnalyticsName:
		db := c.AnalyticsDB
		if db == "" {
			db = c.Analytics()
		}
		return orNothing(sink.OpenAnalytics(ctx, sink.AnalyticsConfig{DB: db, Logger: c.Logger}))
	case sink.SearchName:
		search, err := sink.OpenSearch(ctx, sink.SearchConfig{Dir: c.Search()})
		if err != nil {
			return nil, err
		}
		sinks.run = append(sinks.run, func(ctx context.Context) error {
			if err := search.Serve(ctx); err != nil && c.Logger != nil { // the path may be too long for a socket
				c.Logger.Warn("the search index can be searched when this process has ended, and not before", slog.Any("error", err))
			}
			return nil
		})
		return search, nil
	case sink.CRMName:
		url := c.CRMURL
		if url == "" {
			var err error
			if url, err = c.standIn(ctx, sinks); err != nil {
				return nil, err
			}
		}
		return orNothing(sink.OpenCRM(ctx, sink.CRMConfig{URL: url}))
	case sink.CacheName:
		cache, err := sink.OpenRedisCache(ctx, sink.RedisConfig{URL: c.CacheURL, Logger: c.Logger})
		if err != nil {
			return nil, err
		}
		sinks.after = append(sinks.after, func(context.Context) error { return cache.Close() })
		return sink.NewCacheSink(cache), nil
	case sink.WebhooksName:
		return orNothing(sink.OpenWebhooks(ctx, sink.WebhooksConfig{DB: c.Webhooks(), Receivers: c.Receivers, Logger: c.Logger}))
	default:
		return nil, ErrName
	}
}

// orNothing is what was opened, and nil where that failed.
func orNothing[S sink.Sink](s S, err error) (sink.Sink, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// standIn serves the CRM's stand-in on loopback.
func (c *SinkConfig) standIn(ctx context.Context, sinks *Sinks) (url string, err error) {
	crm, err := sink.OpenCRMServer(ctx, c.CRM())
	if err != nil {
		return "", err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", errors.Join(err, crm.Close())
	}
	server := &http.Server{Handler: crm, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener)
	}()
	sinks.after = append(sinks.after, func(ctx context.Context) error {
		err := server.Shutdown(ctx)
		if err != nil {
			err = server.Close()
		}
		<-ended
		return errors.Join(err, crm.Close())
	})
	return "http://" + listener.Addr().String(), nil
}

// Run does what sinks do besides, until ctx ends.
func (s *Sinks) Run(ctx context.Context) error {
	ended := make(chan error, len(s.run))
	for _, run := range s.run {
		go func() { ended <- run(ctx) }()
	}
	var err error
	for range s.run {
		err = errors.Join(err, <-ended)
	}
	return err
}

// Close closes all of them, and tells what went wrong. What takes longer than ctx is left to the next time.
func (s *Sinks) Close(ctx context.Context) (err error) {
	for _, one := range s.All {
		if closed := one.Close(ctx); closed != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", one.Name(), closed))
		}
	}
	for _, closing := range s.after {
		err = errors.Join(err, closing(ctx))
	}
	return err
}
