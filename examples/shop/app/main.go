// Command app is the example application: a small HTTP server whose version, health and failures are switched by the
// environment, so that one program in different images plays every part in the demo and in the tests. With a flag it
// is a client or a job instead, so that hooks need no other image.
//
//	PORT=8080            where it listens
//	APP_VERSION=1.0.0    what it says it is
//	APP_HEALTH=…         what /healthz answers: ok · fail[:CODE] · slow[:DURATION] · ok-after:DURATION ·
//	                     told[:CODE] (bad while APP_DATA holds a file `sick`) ·
//	                     held[:CODE] (bad until APP_DATA holds a file `well`) · refuse (does not listen at all)
//	APP_FAIL=…           how it dies: start[:CODE] · told[:CODE] (10 s after its start at the earliest,
//	                     whenever APP_DATA holds a file `dead`)
//	APP_DRAIN=1s         how long it still accepts after SIGTERM, while others learn that it goes
//	APP_DATA=/data       a folder whose files GET and PUT /data/NAME reach
//	APP_RELAY=HOST:PORT  no server at all: every connection is passed on to another one
//	APP_TELLS=KEY        how careless it is: it writes this variable's value into its log when it starts, and into
//	                     every answer that says that it is not healthy
//
// Other paths: / says version and host name, /via/SERVICE asks the neighbour of that name, as
// STAGEKEEPER_SERVICE_<SERVICE>_HOST and _PORT name it; /sha256/env/NAME and /sha256/file/PATH say what it was given
// without saying it.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(log.LUTC | log.Ldate | log.Ltime | log.Lmicroseconds)
	log.SetOutput(os.Stdout)
	if len(os.Args) > 1 {
		os.Exit(job())
	}
	if upstream := os.Getenv("APP_RELAY"); upstream != "" {
		log.Printf("fatal: %v", relay(upstream))
		os.Exit(1)
	}
	config, err := configure(os.Getenv)
	if err != nil {
		log.Printf("fatal: %v", err)
		os.Exit(2)
	}
	if config.tells != "" {
		log.Printf("the key is %s, or %s for short", config.tells, base64.StdEncoding.EncodeToString([]byte(config.tells)))
	}
	if config.fail.mode == "start" {
		log.Printf("fatal: shop %s: cannot read its configuration (APP_FAIL=start)", config.version)
		os.Exit(config.fail.code)
	}
	if config.fail.mode == "told" {
		go func() {
			// Long enough to be ready for a while in between: what dies at once does not crash, it just never comes back.
			time.Sleep(10 * time.Second)
			for !config.holds("dead") {
				time.Sleep(100 * time.Millisecond)
			}
			log.Printf("fatal: shop %s: out of luck (APP_FAIL=told)", config.version)
			os.Exit(config.fail.code)
		}()
	}
	if err := serve(config); err != nil {
		log.Printf("fatal: %v", err)
		os.Exit(1)
	}
}

// A setting of the form WORD[:ARGUMENT].
type behaviour struct {
	mode  string
	code  int
	delay time.Duration
}

type configuration struct {
	version, host, port, data string
	tells                     string
	health, fail              behaviour
	drain                     time.Duration
	started                   time.Time
}

func configure(env func(string) string) (configuration, error) {
	or := func(name, otherwise string) string {
		if value := env(name); value != "" {
			return value
		}
		return otherwise
	}
	host, _ := os.Hostname()
	config := configuration{
		version: or("APP_VERSION", "dev"), host: host, port: or("PORT", "8080"), data: env("APP_DATA"),
		tells:   env(env("APP_TELLS")),
		started: time.Now(),
	}
	var health, fail, drain error
	config.health, health = behave("APP_HEALTH", or("APP_HEALTH", "ok"), map[string]string{
		"ok": "", "fail": "503", "slow": "30s", "ok-after": "duration", "told": "503", "held": "503", "refuse": "",
	})
	config.fail, fail = behave("APP_FAIL", or("APP_FAIL", "never"), map[string]string{
		"never": "", "start": "3", "told": "3",
	})
	if config.fail.code == 0 {
		config.fail.code = 3
	}
	config.drain, drain = time.ParseDuration(or("APP_DRAIN", "1s"))
	return config, errors.Join(health, fail, drain)
}

// behave reads WORD[:ARGUMENT]. known gives each word's default argument: empty for none, "duration" where one must be given.
func behave(name, setting string, known map[string]string) (behaviour, error) {
	mode, argument, given := strings.Cut(setting, ":")
	otherwise, ok := known[mode]
	if !ok || given == (otherwise == "") && given {
		return behaviour{}, fmt.Errorf("%s=%s is not understood", name, setting)
	}
	if !given {
		argument = otherwise
	}
	result := behaviour{mode: mode}
	if code, err := strconv.Atoi(argument); err == nil {
		result.code = code
	} else if argument != "" {
		if result.delay, err = time.ParseDuration(argument); err != nil {
			return behaviour{}, fmt.Errorf("%s=%s: %q is neither a number nor a duration such as 5s", name, setting, argument)
		}
	}
	return result, nil
}

// holds says whether APP_DATA holds a file of this name.
func (c configuration) holds(name string) bool {
	_, err := os.Stat(filepath.Join(c.data, name))
	return err == nil
}

func serve(config configuration) error {
	ended, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if config.health.mode == "refuse" {
		log.Printf("shop %s does not listen (APP_HEALTH=refuse)", config.version)
		<-ended.Done()
		return nil
	}
	listener, err := net.Listen("tcp", ":"+config.port)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: logged(leaving(ended, routes(config))), ReadHeaderTimeout: 10 * time.Second}
	log.Printf("shop %s listens on %s", config.version, listener.Addr())
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ended.Done():
	}
	log.Printf("shop %s was told to end; accepts for another %s", config.version, config.drain)
	time.Sleep(config.drain)
	patience, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return server.Shutdown(patience)
}

func routes(config configuration) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-App-Version", config.version)
		fmt.Fprintf(w, "shop %s on %s\n", config.version, config.host)
	})
	mux.HandleFunc("GET /healthz", config.answerHealth)
	mux.HandleFunc("GET /via/{service}", via)
	mux.HandleFunc("GET /sha256/env/{name}", func(w http.ResponseWriter, r *http.Request) {
		value, given := os.LookupEnv(r.PathValue("name"))
		if !given {
			http.Error(w, "not set", http.StatusNotFound)
			return
		}
		fmt.Fprintf(w, "%x\n", sha256.Sum256([]byte(value)))
	})
	mux.HandleFunc("GET /sha256/file/{path...}", func(w http.ResponseWriter, r *http.Request) {
		value, err := os.ReadFile("/" + r.PathValue("path"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		fmt.Fprintf(w, "%x\n", sha256.Sum256(value))
	})
	if config.data != "" {
		mux.HandleFunc("GET /data/{name}", func(w http.ResponseWriter, r *http.Request) {
			http.ServeFile(w, r, filepath.Join(config.data, filepath.Base(r.PathValue("name"))))
		})
		mux.HandleFunc("PUT /data/{name}", func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
			if err == nil {
				err = os.WriteFile(filepath.Join(config.data, filepath.Base(r.PathValue("name"))), body, 0o644)
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	return mux
}

func (c configuration) answerHealth(w http.ResponseWriter, r *http.Request) {
	healthy, code := true, http.StatusServiceUnavailable
	switch c.health.mode {
	case "fail":
		healthy, code = false, c.health.code
	case "told":
		healthy, code = !c.holds("sick"), c.health.code
	case "held":
		healthy, code = c.holds("well"), c.health.code
	case "ok-after":
		healthy = time.Since(c.started) >= c.health.delay
	case "slow":
		select {
		case <-time.After(c.health.delay):
		case <-r.Context().Done():
		}
	}
	if !healthy {
		http.Error(w, strings.TrimSpace("checkout is broken: no payment provider answers "+c.tells), code)
		return
	}
	fmt.Fprintln(w, "ok")
}

// via asks the service of that name that belongs to the same instance, and passes its answer on.
func via(w http.ResponseWriter, r *http.Request) {
	name := "STAGEKEEPER_SERVICE_" + strings.ToUpper(strings.ReplaceAll(r.PathValue("service"), "-", "_"))
	host, port := os.Getenv(name+"_HOST"), os.Getenv(name+"_PORT")
	if host == "" || port == "" {
		http.Error(w, name+"_HOST and _PORT are not set", http.StatusNotFound)
		return
	}
	client := http.Client{Timeout: 5 * time.Second}
	answer, err := client.Get("http://" + net.JoinHostPort(host, port) + "/")
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	w.WriteHeader(answer.StatusCode)
	_, _ = io.Copy(w, answer.Body)
}

// leaving asks clients to close their connection once ended is done. A connection that they keep would be cut while
// their next request is on its way.
func leaving(ended context.Context, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ended.Err() != nil {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// logged writes a line for each request, except for health checks that go well: they would hide the rest.
func logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recorder := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(recorder, r)
		if r.URL.Path != "/healthz" || recorder.status >= 400 {
			log.Printf("%s %s %d", r.Method, r.URL.Path, recorder.status)
		}
	})
}

type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func job() int {
	flags := flag.NewFlagSet("app", flag.ExitOnError)
	text := flags.String("print", "", "print this `TEXT`")
	lines := flags.Int("lines", 1, "print it so `MANY` times, numbered")
	get := flags.String("get", "", "request this `URL`; fails unless the answer is 2xx")
	contains := flags.String("contains", "", "with -get: fails unless the answer contains this `TEXT`")
	retry := flags.Duration("retry", 0, "with -get, without -every: try again for so `LONG`, as nodes learn of a new Service a moment late")
	every := flags.Duration("every", 0, "with -get: again and again, with this `PAUSE` between (at least 50ms), until -until, -for or SIGTERM; counts")
	duration := flags.Duration("for", time.Minute, "with -every: `HOW LONG`, ten minutes at most")
	until := flags.String("until", "", "with -every: end when the answers of the last two seconds all contained this `TEXT`")
	sleep := flags.Duration("sleep", 0, "then sleep this `LONG`")
	code := flags.Int("exit", 0, "then end with this `CODE`")
	_ = flags.Parse(os.Args[1:])
	if flags.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "what is %q? See app -help\n", flags.Arg(0))
		return 2
	}

	for line := 1; *text != "" && line <= *lines; line++ {
		if *lines > 1 {
			fmt.Printf("%s %d\n", *text, line)
		} else {
			fmt.Println(*text)
		}
	}
	ended, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	switch {
	case *get != "" && *every > 0:
		if !watch(ended, *get, *contains, *until, max(*every, 50*time.Millisecond), min(*duration, 10*time.Minute)) {
			return 1
		}
	case *get != "":
		body, err := request(ended, *get, *contains)
		for deadline := time.Now().Add(*retry); err != nil && ended.Err() == nil && time.Now().Before(deadline); {
			time.Sleep(100 * time.Millisecond)
			body, err = request(ended, *get, *contains)
		}
		fmt.Print(body)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	select {
	case <-time.After(*sleep):
	case <-ended.Done():
	}
	return *code
}
