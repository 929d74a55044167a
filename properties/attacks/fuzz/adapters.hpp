#pragma once
// Random adapters of random worlds: pairs of random ranks on some linear layers, judged by the
// claims about adapters; and the faults of the bug catalogue planted into them, each of which must
// be seen.

#include <array>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/lora/adapter.hpp"
#include "properties/attacks/fuzz/fuzz.hpp"
#include "properties/attacks/generators/random.hpp"

namespace bv::fuzz {

inline constexpr double kAdapterScale = 2;  // of the pairs that are drawn, times powers of two

/// A factor of F32, row-major.
struct FactorValues {
  Shape shape;
  std::vector<float> values;
  bool operator==(const FactorValues&) const = default;
};
/// An adapter of PEFT as its two files hold it, by key.
struct DrawnAdapter {
  lora::AdapterConfig config;
  std::map<std::string, FactorValues> tensors;
  bool operator==(const DrawnAdapter&) const = default;
};

/// The model of a world as the base of adapters: headers alone. Errors: those of open_headers.
[[nodiscard]] Result<checkpoint::HfModel> base_of(const Prepared& prepared);

/// Pairs on a random choice of the linear layers that Megatron has, with one A for those of a layer
/// or several, and one scale or several; some with DoRA, rsLoRA, biases of lora_B or a trained
/// norm. Errors: those of Plan::make and SitePlan::make.
[[nodiscard]] Result<DrawnAdapter> draw_adapter(const checkpoint::HfModel& base,
                                                const kinds::Catalogue& kinds,
                                                const parallel::Layout& layout,
                                                generators::Random& random);

/// The adapter on its base, which must outlive it, as must `drawn`. Errors: those of fit_adapter.
[[nodiscard]] Result<lora::Adapter> fitted(const DrawnAdapter& drawn,
                                           const checkpoint::HfModel& base,
                                           const kinds::Catalogue& kinds);

/// What the claims say of a right adapter on this layout; "" when all hold. Layouts that cut a
/// factor unevenly are none.
[[nodiscard]] std::string judge_adapter(const lora::Adapter& adapter,
                                        const checkpoint::HfModel& base,
                                        const kinds::Catalogue& kinds,
                                        const parallel::Layout& layout);

/// What somebody's export does wrong.
enum class AdapterFault {
  DropPair,       // a pair is left out
  DropFactor,     // one factor of it
  Rename,         // a wrapper stays in the name
  LocalShard,     // the A of one rank for the whole
  LocalRows,      // half of the rows of B
  SwapFactors,    // the B of two layers of one shape
  RotateRows,     // rows of B in another order
  RotateRank,     // columns of B in another order than the rows of A
  ScaleDropped,   // alpha = r
  ScaleInverted,  // r / alpha
  ExpertsSlow,    // packed B with the expert as its slow index
  Transpose,      // packed factors with their roles exchanged
  NotFinite,      // a NaN
  // In the files of Megatron's ranks:
  RankParameter,  // a factor is not on one rank
  RankWrapper,    // a wrapper's name stays in a parameter
  RankOther,      // a rank has the values of another one
  RankDrift,      // copies that must be equal are not
  RankRows,       // halves of the rows of one rank's B exchanged: joined before the cut
  RankExperts,    // experts of one rank in another order
  RankWhole,      // a factor that is not cut
  RankAlpha,      // r / alpha
};
inline constexpr std::array kAdapterFaults = {
    AdapterFault::DropPair,      AdapterFault::DropFactor,    AdapterFault::Rename,
    AdapterFault::LocalShard,    AdapterFault::LocalRows,     AdapterFault::SwapFactors,
    AdapterFault::RotateRows,    AdapterFault::RotateRank,    AdapterFault::ScaleDropped,
    AdapterFault::ScaleInverted, AdapterFault::ExpertsSlow,   AdapterFault::Transpose,
    AdapterFault::NotFinite,     AdapterFault::RankParameter, AdapterFault::RankWrapper,
    AdapterFault::RankOther,     AdapterFault::RankDrift,     AdapterFault::RankRows,
    AdapterFault::RankExperts,   AdapterFault::RankWhole,     AdapterFault::RankAlpha};
inline constexpr std::array kRankFaults = {AdapterFault::RankParameter, AdapterFault::RankWrapper,
                                           AdapterFault::RankOther,     AdapterFault::RankDrift,
                                           AdapterFault::RankRows,      AdapterFault::RankExperts,
                                           AdapterFault::RankWhole,     AdapterFault::RankAlpha};
[[nodiscard]] std::string_view name(AdapterFault fault);

/// The adapter with the fault; nullopt when there is no place for it. Equal to the right one when
/// the fault changes nothing there: a rank of one that is put in another order.
[[nodiscard]] std::optional<DrawnAdapter> planted(const DrawnAdapter& right, AdapterFault fault,
                                                  generators::Random& random);

/// In place of a claim: the two files do not belong together and no claim is asked.
inline constexpr std::string_view kRefusedAdapter = "adapter-refused";

/// What sees the fault: kRefusedAdapter, or the claims that are refuted, about the adapter alone
/// and beside the right one. Empty when nothing does. Errors: the right one does not fit the base.
[[nodiscard]] Result<std::vector<std::string_view>> seen_by(const DrawnAdapter& faulty,
                                                            const DrawnAdapter& right,
                                                            const checkpoint::HfModel& base,
                                                            const kinds::Catalogue& kinds);

/// The same of two adapters that are fitted.
[[nodiscard]] Result<std::vector<std::string_view>> seen_of(const lora::Adapter& faulty,
                                                            const lora::Adapter& right,
                                                            const checkpoint::HfModel& base,
                                                            const kinds::Catalogue& kinds);

/// One random adapter of a world, right and with each fault.
struct AdapterTrial {
  bool drawn = false;  // false: no layer was chosen
  std::string said;    // of the right adapter; "" when every claim holds
  std::map<AdapterFault, std::vector<std::string_view>> seen;  // of faults that change something
  std::vector<AdapterFault> unchanged;                         // planted, and nothing is different
};
/// `folder` is empty, and is where Megatron's ranks are written; no path: these are not tried.
/// Errors: those of base_of, draw_adapter, fitted and try_ranks.
[[nodiscard]] Result<AdapterTrial> try_adapter(const Tools& tools, const Prepared& prepared,
                                               std::uint64_t seed,
                                               const std::filesystem::path& folder = {});

}  // namespace bv::fuzz
