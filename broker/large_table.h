/*
 * Where the broker's tables stand in memory. All of it is reserved by the program's file, and none
 * of it is there before it is touched; a page costs a fault then, which takes as long as ten system
 * calls where the processor is a virtual one. So small variables, which every start touches, stand
 * together, and behind them the tables that take a page and more.
 */
#ifndef POSTERN_BROKER_LARGE_TABLE_H
#define POSTERN_BROKER_LARGE_TABLE_H

/* The linker sorts sections by name (Makefile). Where it does not, a start takes longer, and that
 * is all. */
#define LARGE_TABLE __attribute__((section(".bss.zlarge")))

#endif
