package main

import (
	"io"
	"log"
	"net"
	"os"
)

// relay passes every connection on to another address, for as long as both want it.
func relay(upstream string) error {
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	log.Printf("relay to %s: listening on port %s", upstream, port)
	for {
		near, err := listener.Accept()
		if err != nil {
			return err
		}
		go pass(near, upstream)
	}
}

func pass(near net.Conn, upstream string) {
	defer near.Close()
	far, err := net.Dial("tcp", upstream)
	if err != nil {
		log.Printf("relay: %v", err)
		return
	}
	defer far.Close()
	done := make(chan struct{}, 2)
	for _, way := range []struct{ to, from net.Conn }{{far, near}, {near, far}} {
		go func() {
			// How it ends is for those who talk to find out.
			_, _ = io.Copy(way.to, way.from)
			done <- struct{}{}
		}()
	}
	<-done
}
