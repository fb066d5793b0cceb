package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/topology"
)

// cleanUpLimit bounds the removal of what the demo made on a broker.
const cleanUpLimit = 30 * time.Second

// processes is a venue on a broker, where everybody is a process of their own.
type processes struct {
	*run
	resources topology.Resources
}

func (p *processes) session() session.Config {
	return session.Config{URLs: p.URLs, TLS: p.TLS, Name: "evdemo demo"}
}

func (p *processes) prepare(ctx context.Context) (remove func(context.Context) error, err error) {
	s, err := session.DialWithin(ctx, p.session(), p.ConnectTimeout)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	p.screen.say("Broker: %s at %s. Everything made here begins with %q and is removed at the end.", s.ServerVersion(), s.Addr(), p.prefix)
	p.resources = topology.Default().WithPrefix(p.prefix).Resources()
	if err := p.resources.Apply(ctx, s); err != nil {
		return nil, errors.Join(err, p.remove(ctx))
	}
	return p.remove, nil
}

// remove removes what prepare made, also when ctx has ended.
func (p *processes) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpLimit)
	defer cancel()
	s, err := session.DialWithin(ctx, p.session(), cleanUpLimit)
	if err == nil {
		defer s.Close()
		err = p.resources.Delete(ctx, s, topology.EvenShared())
	}
	if err != nil {
		return fmt.Errorf("%w: what begins with %q: %w", ErrLeftBehind, p.prefix, err)
	}
	return nil
}

// start starts a process whose every line of output is an effect.
func (p *processes) start(ctx context.Context, role part) (actor, error) {
	c := &child{name: role.name, args: p.arguments(role), effect: role.effect}
	return c, c.start(ctx, p.run)
}

// arguments are the command line of a consumer.
func (p *processes) arguments(role part) []string {
	args := []string{"listen", "--topic", p.prefix + topic}
	if role.group != "" {
		args = append(args, "--group", role.group)
	}
	if role.queue != "" {
		args = []string{"work", "--queue", p.prefix + role.queue, "--latency", role.latency.String(), "--prefetch", "10"}
	}
	if role.limit > 0 {
		args = append(args, "--count", strconv.Itoa(role.limit))
	}
	return append(args, "--name", role.name, "--no-declare", "-o", "json")
}

func (p *processes) publish(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "evdemo-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file, outcomes := filepath.Join(dir, "orders.jsonl"), filepath.Join(dir, "outcomes.jsonl")
	if err := os.WriteFile(file, p.Events, 0o600); err != nil {
		return err
	}
	c := &child{name: "publish", args: []string{
		"publish", "--topic", p.prefix + topic, "--file", file,
		"--rate", strconv.Itoa(publishRate), "--outcomes", outcomes, "--no-declare", "-o", "json",
	}}
	if err := c.start(ctx, p.run); err != nil {
		return err
	}
	select {
	case <-c.exited:
		return errors.Join(p.readOutcomes(outcomes), c.failure())
	case <-ctx.Done():
		c.stop()
		c.end()
		return p.readOutcomes(outcomes)
	}
}

func (p *processes) readOutcomes(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("the publisher left no outcomes: %w", err)
	}
	for line := range bytes.Lines(content) {
		var o struct {
			ID      string `json:"id"`
			Outcome string `json:"outcome"`
		}
		if err := json.Unmarshal(line, &o); err != nil {
			return fmt.Errorf("read outcomes: %w", err)
		}
		p.ledger.Outcome(o.ID, o.Outcome)
	}
	return nil
}
