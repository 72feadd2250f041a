package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"strings"
	"time"
)

// Every request has a connection of its own, as those of different users have; a connection that is kept would stay
// with the instance that it first met.
var client = http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func request(ctx context.Context, url, contains string) (string, error) {
	question, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	answer, err := client.Do(question)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	switch {
	case err != nil:
		return "", err
	case answer.StatusCode/100 != 2:
		return string(body), fmt.Errorf("GET %s: %s", url, answer.Status)
	case !strings.Contains(string(body), contains):
		return string(body), fmt.Errorf("GET %s: the answer does not contain %q", url, contains)
	}
	return string(body), nil
}

// watch requests url again and again, a bounded number of times, and says how often it failed and what answered.
// True when nothing failed and, where something was waited for, it came.
func watch(ended context.Context, url, contains, until string, every, duration time.Duration) bool {
	counts, good, failed := map[string]int{}, 0, 0
	settled := time.Time{} // since when every answer has contained what is waited for
	pace := time.NewTicker(every)
	defer pace.Stop()
	came := until == ""
	for deadline := time.Now().Add(duration); ended.Err() == nil && time.Now().Before(deadline); {
		// A request that is under way when we are told to end is still waited for and counted.
		body, err := request(context.Background(), url, contains)
		if err != nil {
			failed++
			counts[err.Error()]++
			fmt.Fprintf(os.Stderr, "%s %v\n", time.Now().UTC().Format("15:04:05.000"), err)
		} else {
			good++
			counts[strings.TrimSpace(body)]++
		}
		switch now := time.Now(); {
		case until == "":
		case err != nil || !strings.Contains(body, until):
			settled = time.Time{}
		case settled.IsZero():
			settled = now
		default:
			came = now.Sub(settled) >= 2*time.Second
		}
		if until != "" && came {
			break
		}
		select {
		case <-pace.C:
		case <-ended.Done():
		}
	}
	fmt.Printf("requests=%d failed=%d\n", good+failed, failed)
	answers := make([]string, 0, len(counts))
	for answer := range counts {
		answers = append(answers, answer)
	}
	sort.Strings(answers)
	for _, answer := range answers {
		fmt.Printf("%6d × %s\n", counts[answer], answer)
	}
	return failed == 0 && came
}
