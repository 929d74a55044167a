#include "properties/claims/rotary_of.hpp"

namespace bv::claims {

foreign::RotaryRows rotary_of(const Subject& subject) {
  if (subject.under_test == nullptr) {
    return {};
  }
  const foreign::RulesUnderTest& test = *subject.under_test;
  return foreign::rotary_rows(test.rules, test.kinds, *test.wanted.family);
}

oracle::Turned turned(const foreign::RotaryRows& rows) {
  switch (rows.order) {
    case foreign::RotaryRows::Order::ToNeighbours:
      return {oracle::Turned::Order::ToNeighbours, rows.part};
    case foreign::RotaryRows::Order::ToHalves:
      return {oracle::Turned::Order::ToHalves, rows.part};
    case foreign::RotaryRows::Order::AsStored:
    case foreign::RotaryRows::Order::Unknown:
      break;
  }
  return {};
}

}  // namespace bv::claims
