#define XXH_INLINE_ALL
#include "core/verdict/ids.hpp"

#include <fmt/format.h>
#include <xxhash.h>

#include <map>
#include <set>

#include "core/base/text.hpp"

namespace bv {
namespace {

/// What tells two verdicts of one claim, rule and layout apart.
std::string contents(const Verdict& verdict) {
  const std::string hf = join(verdict.hf, "\n");
  return fingerprint({label(verdict.code), verdict.megatron, hf, verdict.kind, verdict.title,
                      verdict.found, verdict.wanted})
      .substr(0, 8);
}

}  // namespace

std::string fingerprint(const std::vector<std::string_view>& parts) {
  std::string text;
  for (const std::string_view part : parts) {
    text += fmt::format("{}:", part.size());
    text += part;
  }
  return fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
}

std::string fault_fingerprint(const Verdict& verdict) {
  const std::string hf = join(verdict.hf, "\n");
  return fingerprint({label(verdict.code), verdict.claim, verdict.kind, verdict.megatron, hf});
}

std::vector<std::string> unique_ids(const std::vector<Verdict>& verdicts) {
  std::vector<std::string> out;
  std::map<std::string, std::size_t> times;
  for (const Verdict& verdict : verdicts) {
    out.push_back(verdict.id());
    ++times[out.back()];
  }
  std::set<std::string> taken;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (times[out[i]] > 1) {
      out[i] += "~" + contents(verdicts[i]);
    }
    const std::string base = out[i];
    for (int again = 2; !taken.insert(out[i]).second; ++again) {
      out[i] = fmt::format("{}~{}", base, again);
    }
  }
  return out;
}

}  // namespace bv
