/*
 * The programs that one executable holds. frontend/main.c picks one by the name it was run as, or
 * by its first argument; each gets an argument vector that begins with its own name. All of them
 * run as the user, without any privilege.
 */
#ifndef POSTERN_FRONTEND_PERSONALITY_H
#define POSTERN_FRONTEND_PERSONALITY_H

/* Each returns the exit status. argc is at least 1, descriptors 0-2 are open. */
int packet_main(int argc, char **argv);
int tracepath_main(int argc, char **argv);
int doctor_main(int argc, char **argv);

#endif
