package scenario

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/stage"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
)

const workersJobs, workersSmall, workersLarge = 40, 10 * time.Millisecond, 100 * time.Millisecond // every eighth is large

// workers: a queue shares its jobs among workers, and how many it may hand out ahead decides how well.
func workers() stage.Scenario {
	return stage.Scenario{
		Name:  "workers",
		Title: "One to eight workers for the jobs in a queue, who gets how many, and what happens when one is killed",
		Lesson: "Workers that take their jobs from one queue share them: each job goes to one worker, so more workers get more done. " +
			"A broker that may send a worker many jobs ahead (as many as its prefetch) gives all that wait to the worker that comes first, and those that come later to help idle while it does all the jobs, large and small. " +
			"With a prefetch of 1 a worker gets its next job when it has done the last one, so none idles while jobs wait; and what a worker had in hand when it died goes to others in either case.",
		Broken: "the broker may send each worker 100 jobs ahead (--prefetch 100).",
		Fixed:  "the same jobs and workers, one job at a time (--prefetch 1).",
		Play:   playWorkers,
		Figures: []stage.Figure{
			{Key: "rate1", Label: "jobs done with 1 worker", Unit: "/s"},
			{Key: "rate2", Label: "jobs done with 2 workers", Unit: "/s"},
			{Key: "rate4", Label: "jobs done with 4 workers", Unit: "/s"},
			{Key: "rate8", Label: "jobs done with 8 workers", Unit: "/s"},
			{Key: "time", Label: "8 workers: time until the last of 40 jobs is done", Unit: "ms"},
			{Key: "most", Label: "8 workers: the busiest one's share of the work", Unit: "%"},
			{Key: "least", Label: "8 workers: the idlest one's share of the work", Unit: "%"},
			{Key: "missing", Label: "a worker is killed in mid-job: jobs never done, of all 200"},
		},
		Claims: []stage.Claim{
			{Text: "Broken: one of eight workers does more than nine tenths of the work.", By: []string{"most"}, Holds: func(was, _ stage.Figures) bool { return was.Of("most") > 90 }},
			{Text: "Fixed: no worker does more than half of it.", By: []string{"most"}, Holds: func(_, now stage.Figures) bool { return now.Of("most") < 50 }},
			{Text: "Fixed: eight workers are done in less than three quarters of the time that eight took in Broken.", By: []string{"time"}, Holds: func(was, now stage.Figures) bool { return now.Of("time") < was.Of("time")*3/4 }},
			{Text: "Fixed: eight workers do more than one and a half times as many jobs a second as one.", By: []string{"rate1", "rate8"}, Holds: func(_, now stage.Figures) bool { return now.Of("rate8") > 1.5*now.Of("rate1") }},
			{Text: "Both: what the killed worker had in hand is done by another one, and no job is missing.", By: []string{"missing"}, Holds: func(was, now stage.Figures) bool { return was.Of("missing") == 0 && now.Of("missing") == 0 }},
		},
		Try: []string{
			"evdemo work --queue payments --latency 200ms --prefetch 1 --name alice    # and in another terminal --name bob",
			"evdemo publish --queue payments --count 100    # press Ctrl-C in one of the two, and the other does the rest",
		},
	}
}

// workersCrew is who works, and what they do.
type workersCrew struct {
	*stage.Stage
	processes map[string]*stage.Process
	begun     atomic.Int64 // jobs of this round that workers have in hand, or have done
	open      atomic.Bool  // work may begin
	kill      atomic.Bool  // the worker of the next large job is to be killed in the middle of it
	victim    chan string  // has it in hand
	mu        sync.Mutex
	work      map[string]time.Duration // that each has done in this round
}

func playWorkers(ctx context.Context, s *stage.Stage) error {
	c := &workersCrew{Stage: s, processes: map[string]*stage.Process{}, victim: make(chan string, 1), work: map[string]time.Duration{}}
	s.Ledger("jobs").Expect("workers")
	endpoint, err := s.Endpoint(ctx, c.serve)
	if err = errors.Join(err, s.Topology(ctx, topology.Spec{Queues: map[string]topology.Queue{"jobs": {}}})); err != nil {
		return err
	}
	s.Say("Four rounds of %d jobs, with 1, 2, 4 and then 8 programs (evdemo work): the broker hands out jobs as each of them starts, and work begins when all have started.", workersJobs)
	s.Say("Every eighth job is large and takes %v, the others take %v.", workersLarge, workersSmall)
	for count := 1; count <= 8; count *= 2 {
		took, err := c.round(ctx, count, endpoint)
		if err != nil {
			return err
		}
		s.Measure(fmt.Sprintf("rate%d", count), workersJobs/took.Seconds())
		s.Measure("time", stage.Milliseconds(took)) // the last one stays
	}
	shares, total := slices.Sorted(maps.Values(c.work)), workersJobs/8*(workersLarge+7*workersSmall)
	s.Measure("least", 100*float64(shares[0]*time.Duration(len(shares)/8))/float64(total)) // 0 where one of them has done nothing
	s.Measure("most", 100*float64(shares[len(shares)-1])/float64(total))
	s.Say("%d jobs more come for all 8, of which one is killed with SIGKILL in the middle of a large job.", workersJobs)
	c.kill.Store(true)
	_, err = c.round(ctx, 8, endpoint)
	s.Count("missing", s.Ledger("jobs").Account().Consumers[0].Missing)
	return errors.Join(err, s.StopAll())
}

// round publishes jobs, starts workers until there are count, unless those of the last round stay, and has all jobs done.
func (c *workersCrew) round(ctx context.Context, count int, endpoint string) (took time.Duration, err error) {
	if !c.kill.Load() {
		err = c.StopAll()
		clear(c.processes)
	}
	clear(c.work)
	c.open.Store(false)
	c.begun.Store(0)
	jobs, book := made(c.Stage, workersJobs), c.Ledger("jobs")
	for i := 0; i < len(jobs); i += 8 {
		jobs[i].Subject = "large"
	}
	want, prefetch := book.Attempts()+len(jobs), map[stage.Mode]string{stage.Broken: "100", stage.Fixed: "1"}[c.Mode]
	err = errors.Join(err, c.Publish(ctx, book, publisher.ToQueue(c.Name("jobs")), 0, jobs...))
	for err == nil && len(c.processes) < count {
		name := fmt.Sprintf("worker-%d", len(c.processes)+1)
		c.processes[name], err = c.Start(ctx, name, nil, "work", "--queue", c.Name("jobs"), "--http", endpoint,
			"--http-header", "X-Worker: "+name, "--prefetch", prefetch, "--no-declare")
	}
	if err = errors.Join(err, c.Settle(ctx, quiet/5, count, func() int { return int(c.begun.Load()) })); err != nil {
		return 0, err
	}
	began := time.Now()
	c.open.Store(true)
	select {
	case name := <-c.victim:
		err = c.processes[name].Kill()
	default:
	}
	err = errors.Join(err, handled(ctx, c.Stage, book, "workers", want))
	return time.Since(began), err
}

// serve does a job.
func (c *workersCrew) serve(_ http.ResponseWriter, r *http.Request, e event.Event) {
	name, takes := r.Header.Get("X-Worker"), workersSmall
	if e.Subject == "large" {
		takes = workersLarge
		if c.kill.CompareAndSwap(true, false) {
			takes = time.Hour
			c.victim <- name
		}
	}
	c.begun.Add(1)
	if c.Await(r.Context(), "that work begins", time.Minute, c.open.Load) != nil || c.Pause(r.Context(), takes) != nil {
		return // its worker is dead
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.work[name] += takes
	c.Ledger("jobs").Effect("workers", name, e.ID)
}
