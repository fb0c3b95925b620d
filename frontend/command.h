/*
 * The commands that one executable holds. frontend/main.c picks one by the name that the program
 * was run as, or by its first argument. Each gets an argument vector that begins with its own name.
 */
#ifndef POSTERN_FRONTEND_COMMAND_H
#define POSTERN_FRONTEND_COMMAND_H

/* Each returns the exit status. argc is at least 1, descriptors 0-2 are open. */
int mtr_packet_main(int argc, char **argv);
int tracepath_main(int argc, char **argv);
int doctor_main(int argc, char **argv);

#endif
