package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/command"
	"github.com/evdemo/evdemo/worker/webhook"
)

// handlerOptions are the flags that say what is done with an event.
type handlerOptions struct {
	exec, execInput string
	shell           bool

	http, secretFile string
	httpHeaders      []string
	header           http.Header // from httpHeaders

	latency  time.Duration
	failRate float64
	seed     uint64

	given func(flag string) bool
}

func (o *handlerOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.exec, "exec", "", "command to run for each event, with its arguments")
	flags.StringVar(&o.execInput, "exec-input", string(command.InputData), "what the command gets on standard input: data or cloudevent")
	flags.BoolVar(&o.shell, "shell", false, "run --exec by sh -c")
	flags.StringVar(&o.http, "http", "", "URL to post each event to")
	flags.StringArrayVar(&o.httpHeaders, "http-header", nil, "header of the requests, 'NAME: VALUE'; may be repeated")
	flags.StringVar(&o.secretFile, "sign-secret-file", "", "file with the secret (whsec_...) to sign the requests with, as Standard Webhooks do")
	flags.DurationVar(&o.latency, "latency", 0, "how long the built-in handler takes for an event")
	flags.Float64Var(&o.failRate, "fail-rate", 0, "share of attempts that the built-in handler fails, 0 to 1")
	flags.Uint64Var(&o.seed, "seed", 0, "seed for --fail-rate (default: a random one)")
}

func (o *handlerOptions) check() error {
	if o.given("exec") && strings.TrimSpace(o.exec) == "" {
		return errors.New("--exec is empty: want a command")
	}
	if o.given("http") && o.http == "" {
		return errors.New("--http is empty: want a URL")
	}
	if o.exec != "" && o.http != "" {
		return errors.New("give --exec or --http, not both")
	}
	for _, goes := range []struct {
		with  bool
		name  string
		flags []string
	}{
		{o.exec != "", "--exec", []string{"exec-input", "shell"}},
		{o.http != "", "--http", []string{"http-header", "sign-secret-file"}},
		{o.exec == "" && o.http == "", "the built-in handler, without --exec and --http", []string{"latency", "fail-rate", "seed"}},
	} {
		for _, flag := range goes.flags {
			if o.given(flag) && !goes.with {
				return fmt.Errorf("--%s goes with %s", flag, goes.name)
			}
		}
	}
	switch {
	case o.execInput != string(command.InputData) && o.execInput != string(command.InputCloudEvent):
		return fmt.Errorf("--exec-input %q: want %s or %s", o.execInput, command.InputData, command.InputCloudEvent)
	case o.latency < 0:
		return fmt.Errorf("--latency %v: want 0 or more", o.latency)
	case !(o.failRate >= 0 && o.failRate <= 1):
		return fmt.Errorf("--fail-rate %v: want 0 to 1", o.failRate)
	}
	return o.parseHeaders()
}

func (o *handlerOptions) parseHeaders() error {
	o.header = http.Header{}
	for _, text := range o.httpHeaders {
		name, value, err := webhook.ParseHeader(text)
		if err != nil {
			return fmt.Errorf("--http-header: %w", err)
		}
		o.header.Add(name, value)
	}
	return nil
}

// handler makes the handler that the flags ask for. What it opens is closed at the end.
func (o *handlerOptions) handler(app *App, printer *printer, concurrency int) (worker.Handler, func(), error) {
	switch {
	case o.exec != "":
		runner, err := command.New(o.command(app))
		if err != nil {
			return nil, nil, fmt.Errorf("--exec: %w", err)
		}
		return printer.guard(runner.Handle, standardFile(app.Out)), func() {}, nil
	case o.http != "":
		config := webhook.Config{URL: o.http, Headers: o.header, Concurrency: concurrency}
		var err error
		if o.secretFile != "" {
			if config.Secret, err = readSecret(o.secretFile); err != nil {
				return nil, nil, err
			}
		}
		poster, err := webhook.New(config)
		if err != nil {
			return nil, nil, fmt.Errorf("--http: %w", err)
		}
		return poster.Handle, poster.Close, nil
	default:
		return o.builtIn(app, printer), func() {}, nil
	}
}

// command says how the command is run. It gets the standard streams themselves where they are files:
// then nothing stands between.
func (o *handlerOptions) command(app *App) command.Config {
	config := command.Config{Command: o.exec, Shell: o.shell, Input: command.Input(o.execInput), Stderr: app.Err}
	if app.global.quiet {
		return config
	}
	config.Stdout = app.Out
	if file := standardFile(app.Out); file != nil {
		config.Stdout = file
	}
	return config
}

// standardFile is the file behind standard output, nil where there is none.
func standardFile(out io.Writer) *os.File {
	checked, ok := out.(*checkedWriter)
	if !ok {
		return nil
	}
	file, _ := checked.w.(*os.File)
	return file
}

// guard ends the run where no event is at fault: the command cannot be started any more, or nobody reads
// its standard output. Its event goes back to the queue, as do those that were sent ahead.
func (p *printer) guard(handle worker.Handler, stdout *os.File) worker.Handler {
	return func(ctx context.Context, d *worker.Delivery) error {
		err := handle(ctx, d)
		var start *fs.PathError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &start) && start.Op == "fork/exec" && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.E2BIG):
			err = fmt.Errorf("--exec: the command cannot be started: %w", start)
		case stdout != nil && nobodyReads(stdout):
			err = fmt.Errorf("standard output: %w", syscall.EPIPE)
		default:
			return err
		}
		p.fail(err)
		return worker.ErrRequeue
	}
}

func readSecret(path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("--sign-secret-file: %w", err)
	}
	secret := strings.TrimSpace(string(content))
	if secret == "" {
		return "", fmt.Errorf("--sign-secret-file: %s is empty", path)
	}
	return secret, nil
}

// errSimulated is what --fail-rate fails with.
var errSimulated = errors.New("failed on purpose (--fail-rate)")

// builtIn is the built-in handler: it takes its time, fails its share, and prints.
func (o *handlerOptions) builtIn(app *App, printer *printer) worker.Handler {
	fails := o.failures(app)
	log := app.Logger()
	return func(ctx context.Context, d *worker.Delivery) error {
		if app.global.verbose {
			log.Debug("handling", slog.String("id", d.Event.ID), slog.Int("attempt", d.Attempt))
		}
		if o.latency > 0 {
			select {
			case <-time.After(o.latency):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if fails() {
			return errSimulated
		}
		return printer.print(d)
	}
}

// failures decides by chance which attempts fail, by a seed that it tells.
func (o *handlerOptions) failures(app *App) func() bool {
	if o.failRate == 0 {
		return func() bool { return false }
	}
	if !o.given("seed") {
		o.seed = rand.Uint64() //nolint:gosec // a simulation
	}
	app.Logger().Info("failing by chance", "fail_rate", o.failRate, "seed", o.seed)
	chance := newChance(o.seed)
	return func() bool { return chance.float() < o.failRate }
}

// parseSchedule reads --retry: delays separated by commas, or none. It is nil where nothing was given.
func parseSchedule(text string) ([]time.Duration, error) {
	switch text {
	case "":
		return nil, nil
	case "none":
		return []time.Duration{}, nil
	}
	var schedule []time.Duration
	for part := range strings.SplitSeq(text, ",") {
		delay, err := topology.ParseDuration(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("--retry: %w", err)
		}
		if delay < time.Millisecond {
			return nil, fmt.Errorf("--retry %s: a delay is 1ms at the least", text)
		}
		schedule = append(schedule, delay)
	}
	return schedule, nil
}

// openDedup opens the store that --dedup names; nil where it names none.
func openDedup(ctx context.Context, app *App, name string, lease time.Duration) (worker.DedupStore, func() error, error) {
	switch name {
	case "":
		return nil, func() error { return nil }, nil
	case "memory":
		return worker.NewMemoryStore(worker.MemoryConfig{}), func() error { return nil }, nil
	}
	store, err := openInbox(ctx, app, "--dedup", name, lease)
	if err != nil {
		return nil, nil, err
	}
	return store, store.Close, nil
}
