// Serves the mailbox (format/mailbox.h): what `tidemark stats|cleanup|snapshot|stop|set PID` ask for.
#pragma once
#include <cstdint>

namespace tidemark::keeper {

bool mail_waits();    // a request that nobody serves yet
void serve_mail();    // from the keeper, when mail_waits and no errand is under way

}  // namespace tidemark::keeper
