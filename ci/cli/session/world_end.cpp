// How the processes of a world end: with one exit code, and what was wrong is told once.

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <new>

#include "ci/cli/command.hpp"
#include "ci/cli/session/finish.hpp"
#include "ci/cli/session/signals.hpp"
#include "ci/cli/session/world.hpp"
#include "core/comm/processes.hpp"

namespace bv::cli {
namespace {

/// How long a process that cannot begin looks for the others, to tell them.
constexpr std::chrono::seconds kDeclines{10};

/// What a process knows by itself: which rank is gone, or does something else. A library that fails
/// for all names none, and is told once.
bool is_seen_by_each(const Error& why) {
  return why.code == Code::RankDiverged ||
         (why.code == Code::RankLost && why.message.starts_with("rank ") &&
          why.message.find(" stopped: ") == std::string::npos);
}

/// Rank 0 has said it, perhaps as that of another rank.
bool is_told(const std::optional<comm::Link::FailedEnd>& host, const Error& why) {
  return host && host->why && host->why->message.find(why.message) != std::string::npos;
}

int code_from(const std::string& word) {
  int out = 4;
  std::from_chars(word.data(), word.data() + word.size(), out);
  return out;
}

}  // namespace

Result<Run> World::doing(const std::function<Result<Run>()>& work) {
  if (unready_) {
    return *unready_;
  }
  if (link_ == nullptr) {
    return work();
  }
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return out_of_memory();
  } catch (const std::exception& thrown) {
    return fail(Code::Assertion, fmt::format("an exception ended the work: {}", thrown.what()))
        .advise("report it with the command line and the output of bridge-verify doctor");
  }
}

int World::fail_with(Context& context, const Options& options, const Error& why) {
  if (link_ == nullptr) {
    return report_error(context, options, why);
  }
  static_cast<void>(link_->all_are_here());  // the work may have ended for another's failure
  const bool own = !link_->failure();
  link_->fail_all(why);
  const Error& first = *link_->failure();
  // Of one failure `why` may say more: what to do with what is kept.
  const int code = report_error(context, options, first.code == why.code ? why : first);
  if (is_host()) {
    link_->leave(std::to_string(code));
    return code;
  }
  const auto host = link_->end_of_failed_host();
  const bool told = host && (!own || is_told(host, first));
  if (!told || is_seen_by_each(first)) {
    context.streams.be_silent(false);
    context.streams.err(
        fmt::format("rank {} ends with {}: {}\n", link_->rank(), label(first.code), first.message));
    context.streams.be_silent(true);
  }
  return host ? code_from(host->word) : code;
}

int decline_world(Context& context, const Options& options, const Error& why) {
  const auto launch = launch_of(context);
  if (!launch || !*launch) {
    return report_error(context, options, why);
  }
  const bool is_host = (*launch)->rank == 0;
  const int code = is_host ? report_error(context, options, why) : exit_code_of(why.code);
  const auto link = comm::enter(**launch, std::min(kDeclines, patience_of(options)));
  if (link) {
    (*link)->fail_all(why);
  }
  if (is_host) {
    if (link) {
      (*link)->leave(std::to_string(code));
    }
    return code;
  }
  const auto host = link ? (*link)->end_of_failed_host() : std::nullopt;
  if (!is_told(host, why)) {
    Options own = options;  // reports are rank 0's
    own.out.clear();
    own.ci = "none";
    context.gate.reports.clear();
    report_error(context, own, why);
  }
  return host ? code_from(host->word) : code;
}

int World::end_with(Context& context, const Options& options, Run run,
                    int (*report)(Context&, const Options&, Run)) {
  // Who was stopped has told the others, and reports what it has.
  const bool told = link_ != nullptr && run.stopped && link_->failure();
  const bool alone = link_ == nullptr || told;
  if (const Status done = alone ? Status(Done{}) : link_->all_done(); !done) {
    return fail_with(context, options, done.error());
  }
  stamp(context, options, run);
  // Nobody has seen a verdict that did not arrive; the others hear of it.
  const int exit_code = flushed(context, options, report(context, options, std::move(run)));
  if (alone) {
    if (told && is_host()) {
      link_->leave(std::to_string(exit_code));
    }
    return exit_code;
  }
  const auto word = link_->last_word(std::to_string(exit_code));
  if (!word) {
    context.streams.discard();
    return fail_with(context, options, word.error());
  }
  return code_from(*word);
}

}  // namespace bv::cli
