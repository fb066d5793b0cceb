//go:build unix

package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

const (
	httpConnections = 64
	httpSeconds     = 6
	// wantedOrders is how many orders per second are wanted, and wantedP99 the latency.
	wantedOrders = 3000
	wantedP99    = 50 * time.Millisecond
)

// postOrder has wrk post orders.
const postOrder = `wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"user_id":"user-123","items":[{"sku":"item-1","quantity":1,"price":50}]}'
`

// measureHTTP prints how many orders "serve" takes, beside a handler that does no more than one durable insert.
func measureHTTP(ctx context.Context, c config) (missed bool, err error) {
	if !c.measures("http") {
		return false, nil
	}
	if _, err := exec.LookPath("wrk"); err != nil {
		return false, errors.New("http: the load comes from wrk: install it (apt-get install wrk, brew install wrk)")
	}
	s, err := newStores(c)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	var p99 []float64
	var perSecond []float64
	name := fmt.Sprintf("POST /api/orders on SQLite, %d connections, against a handler that does one durable insert", httpConnections)
	below, err := compare(ctx, c, name, 1, func(ctx context.Context) (p pair, err error) {
		bare, err := s.bareHTTP(ctx)
		if err != nil {
			return p, err
		}
		ours, err := s.serveHTTP(ctx)
		p99, perSecond = append(p99, ours.p99.Seconds()), append(perSecond, ours.perSecond)
		return pair{bare.perSecond, ours.perSecond}, err
	})
	if err != nil {
		return false, fmt.Errorf("http: %w", err)
	}
	rate, latency := median(perSecond), time.Duration(median(p99)*float64(time.Second))
	ok := rate >= wantedOrders && latency < wantedP99
	fmt.Printf("  %s orders per second, p99 %v   want at least %s, under %v: %s\n\n",
		thousands(int(rate)), latency.Round(time.Millisecond/10), thousands(wantedOrders), wantedP99, verdict(ok))
	return below || !ok, nil
}

// load is what wrk has measured.
type load struct {
	perSecond float64
	p99       time.Duration
}

func (s *stores) wrk(ctx context.Context, url string) (l load, err error) {
	script := filepath.Join(s.dir, "post.lua")
	if err := os.WriteFile(script, []byte(postOrder), 0o600); err != nil {
		return l, err
	}
	out, err := exec.CommandContext(ctx, "wrk", "-t1", "-c", strconv.Itoa(httpConnections), "-d", strconv.Itoa(httpSeconds)+"s",
		"--latency", "-s", script, url).CombinedOutput()
	if err != nil {
		return l, fmt.Errorf("wrk: %w: %s", err, out)
	}
	rate := regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`).FindSubmatch(out)
	p99 := regexp.MustCompile(`99%\s+([0-9.]+[a-z]+)`).FindSubmatch(out)
	if refused := regexp.MustCompile(`Non-2xx[^\n]*|Socket errors[^\n]*`).Find(out); rate == nil || p99 == nil || refused != nil {
		return l, fmt.Errorf("wrk: %s", out)
	}
	if l.perSecond, err = strconv.ParseFloat(string(rate[1]), 64); err != nil {
		return l, err
	}
	l.p99, err = time.ParseDuration(string(p99[1]))
	return l, err
}

// bareHTTP is the handler of one durable insert.
func (s *stores) bareHTTP(ctx context.Context) (l load, err error) {
	file := filepath.Join(s.dir, fmt.Sprintf("%d.db", s.made.Add(1)))
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)")
	if err != nil {
		return l, err
	}
	db.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, db.Close(), removeAll(file)) }()
	if _, err := db.ExecContext(ctx, `CREATE TABLE orders (id INTEGER PRIMARY KEY, body BLOB NOT NULL)`); err != nil {
		return l, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return l, err
	}
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			_, err = db.ExecContext(r.Context(), `INSERT INTO orders (body) VALUES (?)`, body)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	l, err = s.wrk(ctx, "http://"+listener.Addr().String()+"/api/orders")
	err = errors.Join(err, server.Close())
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return l, err
}

// serveHTTP is "evdemo serve", a process of its own.
func (s *stores) serveHTTP(ctx context.Context) (l load, err error) {
	file := filepath.Join(s.dir, fmt.Sprintf("%d.db", s.made.Add(1)))
	command := exec.CommandContext(ctx, s.config.evdemo, "serve", "--db", file, "--addr", "127.0.0.1:0")
	said, err := command.StderrPipe()
	if err != nil {
		return l, err
	}
	if err := command.Start(); err != nil {
		return l, err
	}
	defer func() {
		err = errors.Join(err, command.Process.Signal(syscall.SIGTERM), command.Wait(), removeAll(file))
	}()
	at := regexp.MustCompile(`url=(\S+)`)
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		if url := at.FindStringSubmatch(lines.Text()); url != nil {
			go func() { _, _ = io.Copy(io.Discard, said) }()
			return s.wrk(ctx, url[1]+"/api/orders")
		}
	}
	return l, errors.New("serve does not say where")
}
