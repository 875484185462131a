#pragma once
// Calls of a program's or a library's own operators (own_operators.cpp).
extern long own_news, own_deletes;
