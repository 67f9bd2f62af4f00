//! A policy document as JSON has it, before anything is known of what it says.
//!
//! What is not in the grammar, or is there twice, is refused: a condition that is misspelt, or one of two, would be one that
//! nobody checks. How deep a document is nested is bounded by the JSON reader.

use std::{collections::HashSet, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{self, Error as _, MapAccess, SeqAccess, Visitor, value::SeqAccessDeserializer},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct RawDocument {
    pub(super) version: Option<String>,
    pub(super) id: Option<String>,
    pub(super) statement: Many<RawStatement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct RawStatement {
    pub(super) sid: Option<String>,
    pub(super) effect: RawEffect,
    pub(super) principal: Option<RawPrincipal>,
    pub(super) not_principal: Option<RawPrincipal>,
    pub(super) action: Option<Many<String>>,
    pub(super) not_action: Option<Many<String>>,
    pub(super) resource: Option<Many<String>>,
    pub(super) not_resource: Option<Many<String>>,
    #[serde(default)]
    pub(super) condition: Entries<Entries<Many<Scalar>>>,
}

#[derive(Deserialize)]
pub(super) enum RawEffect {
    Allow,
    Deny,
}

pub(super) enum RawPrincipal {
    Everyone,
    These(Vec<(String, Many<String>)>),
}

/// One, or a list.
pub(super) struct Many<T>(pub(super) Vec<T>);

/// An object whose keys are there once each.
pub(super) struct Entries<T>(pub(super) Vec<(String, T)>);

/// A text, a number or a truth value, as text.
pub(super) struct Scalar(pub(super) String);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Many<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMore<T> {
            type Value = Many<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("one, or a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Many<T>, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(Many)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Many<T>, A::Error> {
                let one = T::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Many(vec![one]))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Many<T>, E> {
                Ok(Many(vec![T::deserialize(
                    de::value::StrDeserializer::new(text),
                )?]))
            }

            fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Many<T>, E> {
                Ok(Many(vec![T::deserialize(
                    de::value::BoolDeserializer::new(truth),
                )?]))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Many<T>, E> {
                Ok(Many(vec![T::deserialize(
                    de::value::U64Deserializer::new(number),
                )?]))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Many<T>, E> {
                Ok(Many(vec![T::deserialize(
                    de::value::I64Deserializer::new(number),
                )?]))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Many<T>, E> {
                Ok(Many(vec![T::deserialize(
                    de::value::F64Deserializer::new(number),
                )?]))
            }
        }

        deserializer.deserialize_any(OneOrMore(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Once<T> {
            type Value = Entries<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<T>, A::Error> {
                let (mut entries, mut keys) = (Vec::new(), HashSet::new());
                while let Some(key) = map.next_key::<String>()? {
                    // A condition's keys are the same in any case.
                    if !keys.insert(key.to_ascii_lowercase()) {
                        return Err(A::Error::custom(format_args!("`{key}` is there twice")));
                    }
                    entries.push((key, map.next_value()?));
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Once(PhantomData))
    }
}

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de> Deserialize<'de> for RawPrincipal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EveryoneOrThese;

        impl<'de> Visitor<'de> for EveryoneOrThese {
            type Value = RawPrincipal;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("`*`, or an object of principals")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawPrincipal, E> {
                match text {
                    "*" => Ok(RawPrincipal::Everyone),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawPrincipal, A::Error> {
                let entries = Entries::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(RawPrincipal::These(entries.0))
            }
        }

        deserializer.deserialize_any(EveryoneOrThese)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsText;

        impl Visitor<'_> for AsText {
            type Value = Scalar;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text, a number or a truth value")
            }

            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar(text.to_owned()))
            }

            fn visit_bool<E>(self, truth: bool) -> Result<Scalar, E> {
                Ok(Scalar(truth.to_string()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Scalar, E> {
                Ok(Scalar(number.to_string()))
            }
        }

        deserializer.deserialize_any(AsText)
    }
}
