package system

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/sink"
)

// Names of the sinks.
const (
	Lake      = "lake"
	Analytics = "analytics"
)

// SinkNames are the names of all sinks.
func SinkNames() []string { return []string{Lake, Analytics} }

// sinkTopics are the topics whose events a sink wants, whether it is open here or not.
func sinkTopics(name string) []string {
	switch name {
	default:
		return slices.DeleteFunc(shop.Topics(), func(topic string) bool { return topic == shop.Commands })
	}
}

// SinkConfig says where sinks keep what they have. Dir is required.
type SinkConfig struct {
	// Dir is the folder in which they are. It is made where it does not exist.
	Dir string
	// Names are the sinks to open.
	Names []string
	// Logger is told what does not go well in the background. Default: nothing is logged.
	Logger *slog.Logger
}

// Places in the folder of the sinks.
func (c *SinkConfig) lake() string      { return filepath.Join(c.Dir, "lake") }
func (c *SinkConfig) analytics() string { return filepath.Join(c.Dir, "analytics.db") }

// OpenSinks opens sinks. Each is to be closed.
func OpenSinks(ctx context.Context, config SinkConfig) (sinks []sink.Sink, err error) {
	if len(config.Names) == 0 {
		return nil, nil
	}
	if err := os.MkdirAll(config.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("folder of the sinks: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, CloseSinks(ctx, sinks))
			sinks = nil
		}
	}()
	for _, name := range config.Names {
		one, err := config.open(ctx, name)
		if err != nil {
			return sinks, fmt.Errorf("%s: %w", name, err)
		}
		sinks = append(sinks, one)
	}
	return sinks, nil
}

func (c *SinkConfig) open(ctx context.Context, name string) (sink.Sink, error) {
	switch name {
	case Lake:
		return sink.OpenLake(ctx, sink.LakeConfig{Dir: c.lake(), Logger: c.Logger})
	case Analytics:
		return sink.OpenAnalytics(ctx, sink.AnalyticsConfig{DB: c.analytics(), Logger: c.Logger})
	default:
		return nil, ErrName
	}
}

// CloseSinks closes all of them, and tells what went wrong. What takes longer than ctx is left to the next time.
func CloseSinks(ctx context.Context, sinks []sink.Sink) (err error) {
	for _, one := range sinks {
		if closed := one.Close(ctx); closed != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", one.Name(), closed))
		}
	}
	return err
}
