/*
 * Reads packets from the raw sockets and passes on the answers. Runs in the broker.
 */
#ifndef POSTERN_BROKER_RECV_H
#define POSTERN_BROKER_RECV_H

/* Reads up to RECORD_BATCH packets from one of the raw sockets that receive. Closes each probe that
 * one answers and queues the answer. */
void recv_answers(int fd);

#endif
