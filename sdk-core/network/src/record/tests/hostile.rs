//! Crowds, replays, floods and forgeries.

use kwaainet_platform::SeededRandom;

use super::*;

#[test]
fn fifty_hostile_ids_take_no_key_from_those_who_came_first() {
    let (mut store, random) = (RecordStore::default(), SeededRandom::new(3));
    let mut crowd = in_shard(0, 0..2000);
    let honest: Vec<_> = crowd.by_ref().take(20).collect();
    for pair in &honest {
        put(&mut store, pair, fresh(pair), NOW).unwrap();
    }
    let hostile: Vec<_> = crowd.take(50).collect();
    let taken = hostile
        .iter()
        .filter(|pair| put(&mut store, pair, fresh(pair), NOW).is_ok());
    assert_eq!(taken.count(), PER_KEY - 20);
    let error = put(&mut store, &hostile[49], fresh(&hostile[49]), NOW).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no more than 64 providers under a key; try again later"
    );
    // Two minutes later the honest renew, and the hostile do what they can.
    let later = NOW + 120_000;
    for pair in hostile.iter().chain(&honest) {
        let renewed = record(pair, 2, later + LIFETIME_MS);
        let _ = put(&mut store, pair, renewed, later);
    }
    // After the first records have ended, all twenty are there, and every sample has some of them.
    let later = NOW + LIFETIME_MS + 2000;
    let key = key_for(honest[0].peer_id());
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let sample = store.get(key, 1000, later, &random);
        assert_eq!(sample.len(), RETURNED);
        let signers = sample.iter().map(|record| open(record, later).unwrap().peer);
        let before = seen.len();
        let in_sample: Vec<_> = signers
            .filter(|signer| honest.iter().any(|pair| pair.peer_id() == *signer))
            .collect();
        assert!(!in_sample.is_empty());
        seen.extend(in_sample);
        assert!(seen.len() >= before);
    }
    assert_eq!(seen.len(), 20);
}

#[test]
fn who_crowds_one_shard_hides_nobody_in_the_others() {
    let (mut discovery, random) = (
        Discovery::new(keypair(5000), MODEL, SPAN).unwrap(),
        SeededRandom::new(1),
    );
    let now = Now {
        unix_ms: NOW,
        monotonic_ms: 0,
    };
    let keys = discovery.questions(now, &random).unwrap();
    assert_eq!(keys.len(), usize::from(SHARDS));
    let key = |shard| provider_key(MODEL, 0, shard);
    let hostile: Vec<_> = in_shard(0, 0..2000).take(50).map(|pair| fresh(&pair)).collect();
    for half in hostile.chunks(25) {
        assert!(
            !discovery.answered(key(0), half.to_vec(), now),
            "one shard is never enough"
        );
    }
    assert_eq!(discovery.providers(now).len(), 32);
    let honest = in_shard(1, 0..2000).next().unwrap();
    assert!(!discovery.answered(key(1), vec![fresh(&honest)], now));
    let elsewhere = in_shard(2, 0..2000).next().unwrap();
    assert!(!discovery.answered(key(1), vec![fresh(&elsewhere)], now));
    assert_eq!(
        discovery.refused(),
        Some(&RecordError::WrongKey(elsewhere.peer_id()))
    );
    assert!(discovery.answered(key(2), vec![], now), "three shards were heard");
    let known = discovery.providers(now);
    assert!(known.iter().any(|provider| provider.peer == honest.peer_id()));
    assert_eq!(known.len(), 33);
    // Nobody lives longer because its clock is ahead.
    let ahead = in_shard(3, 0..2000).next().unwrap();
    let _ = discovery.answered(key(3), vec![record(&ahead, 1, NOW + LIFETIME_MS + SKEW_MS)], now);
    assert_eq!(discovery.providers(now).len(), 34);
    let later = Now {
        monotonic_ms: LIFETIME_MS,
        ..now
    };
    assert_eq!(discovery.providers(later), []);
}

#[test]
fn a_thousand_providers_of_one_bucket_stay_bounded() {
    let (mut store, random) = (RecordStore::default(), SeededRandom::new(1));
    let mut discovery = Discovery::new(keypair(5000), MODEL, SPAN).unwrap();
    let now = Now {
        unix_ms: NOW,
        monotonic_ms: 0,
    };
    let kept = (0..1000)
        .map(keypair)
        .filter(|pair| put(&mut store, pair, fresh(pair), NOW).is_ok());
    assert_eq!(kept.count(), PER_KEY * usize::from(SHARDS));
    assert!(store.size() < 512 << 10, "{}", store.size());
    for _ in 0..4 {
        for key in discovery.questions(now, &random).unwrap() {
            let sample = store.get(key, usize::MAX, NOW, &random);
            assert_eq!(sample.len(), RETURNED);
            let _ = discovery.answered(key, sample, now);
        }
    }
    assert_eq!(discovery.providers(now).len(), 256);
    let later = Now {
        unix_ms: NOW,
        monotonic_ms: LIFETIME_MS,
    };
    assert_eq!(
        discovery.providers(later),
        [],
        "a wall clock that stands still keeps nobody alive"
    );
}

#[test]
fn only_sound_records_are_kept() {
    let (mut store, random) = (RecordStore::default(), SeededRandom::new(1));
    let (pair, other) = (keypair(1), keypair(2));
    let (from, key) = (pair.peer_id(), key_for(pair.peer_id()));
    let sound = fresh(&pair);
    let mut cut = sound.clone();
    cut.pop();
    let body = offer(SPAN).to_bytes().unwrap();
    let signed = |body: &[u8]| Signed::sign(&pair, 1, NOW + 1, body).unwrap().into_bytes();
    let mut refuse =
        |publisher, key, record: Vec<u8>| store.put(from, key, publisher, record, NOW).unwrap_err();
    assert!(matches!(refuse(None, key, cut), RecordError::Malformed(_)));
    assert!(matches!(
        refuse(None, key, vec![0; 5000]),
        RecordError::TooLong { .. }
    ));
    assert!(matches!(
        refuse(None, key, record(&pair, 1, NOW)),
        RecordError::Expired { .. }
    ));
    assert!(matches!(
        refuse(None, key, record(&pair, 1, NOW + 600_000)),
        RecordError::TooFarAhead { .. }
    ));
    assert!(matches!(
        refuse(None, key, signed(b"no offer")),
        RecordError::Malformed(_)
    ));
    let claimed = other.peer_id();
    let of_another = RecordError::NotTheSigner {
        claimed,
        signer: from,
    };
    assert_eq!(refuse(Some(claimed), key, sound.clone()), of_another);
    assert_eq!(
        refuse(None, RecordKey([1; 32]), sound.clone()),
        RecordError::WrongKey(from)
    );
    let elsewhere = (0..SHARDS).find(|shard| *shard != shard_of(from)).unwrap();
    let elsewhere = provider_key(MODEL, 0, elsewhere);
    assert_eq!(
        refuse(None, elsewhere, sound.clone()),
        RecordError::WrongKey(from)
    );
    assert_eq!(store.size(), 0);
    // Anybody may carry a record; its signature says whose it is.
    store
        .put(claimed, key, None, record(&pair, 5, NOW + 1000), NOW)
        .unwrap();
    for sequence in [4, 5] {
        let replayed = RecordError::Stale {
            peer: from,
            sequence,
            kept: 5,
        };
        assert_eq!(
            put(&mut store, &pair, record(&pair, sequence, NOW + 2000), NOW),
            Err(replayed)
        );
    }
    let size = store.size();
    put(&mut store, &pair, record(&pair, 6, NOW + 1000), NOW).unwrap();
    assert_eq!(store.size(), size, "the older one went");
    let kept = store.get(key, 10, NOW, &random);
    assert_eq!(open(&kept[0], NOW).unwrap().sequence, 6);
    assert_eq!(open(&kept[0], NOW).unwrap().body, body);
    assert_eq!(store.get(key, 10, NOW + 1000, &random).len(), 0, "expired");
    let later = NOW + 10_000;
    put(&mut store, &other, record(&other, 1, later + 1000), later).unwrap();
    assert_eq!(store.size(), size, "and no longer in memory");
}

#[test]
fn floods_are_told_to_wait() {
    let mut store = RecordStore::default();
    let (pair, other) = (keypair(1), keypair(2));
    let key = key_for(pair.peer_id());
    let mut send = |from: PeerId, now| store.put(from, key, None, vec![0; 9], now).unwrap_err();
    for _ in 0..64 {
        assert!(matches!(send(pair.peer_id(), NOW), RecordError::Malformed(_)));
    }
    let error = send(pair.peer_id(), NOW);
    assert!(
        error
            .to_string()
            .ends_with("sends too many records; the next is taken in 1 s"),
        "{error}"
    );
    assert!(
        matches!(send(other.peer_id(), NOW), RecordError::Malformed(_)),
        "others may"
    );
    assert!(matches!(
        send(pair.peer_id(), NOW + 1000),
        RecordError::Malformed(_)
    ));
    assert!(matches!(
        send(pair.peer_id(), NOW + 1000),
        RecordError::RateLimited { .. }
    ));
    // One publisher with many models, carried by many, and again when the first have ended.
    for now in [NOW, NOW + 10_000] {
        let many = (0..100).filter(|model| {
            let offer = Offer {
                model: ModelRoot([*model; 32]),
                ..offer(SPAN)
            };
            let record = Signed::sign(&pair, now, now + 1000, &offer.to_bytes().unwrap()).unwrap();
            let key = keys_of(pair.peer_id(), offer.model, &SPAN)[0];
            let from = peer(100 + u16::from(*model));
            store.put(from, key, None, record.into_bytes(), now).is_ok()
        });
        assert_eq!(many.count(), 64);
    }
    // A thousand ids later nobody new is listened to, until a minute has gone.
    for number in 0..2000 {
        let _ = store.put(peer(number), key, None, vec![], NOW);
    }
    let error = store.put(peer(3000), key, None, vec![], NOW).unwrap_err();
    assert!(matches!(error, RecordError::Full { limit: 1024, .. }), "{error}");
    let error = store
        .put(peer(3000), key, None, vec![], NOW + 70_000)
        .unwrap_err();
    assert!(matches!(error, RecordError::Malformed(_)), "{error}");
}

#[test]
fn an_offer_that_changes_while_it_is_published_is_published_again() {
    let (mut discovery, random) = (
        Discovery::new(keypair(1), MODEL, SPAN).unwrap(),
        SeededRandom::new(1),
    );
    let at = |ms| Now {
        unix_ms: NOW + ms,
        monotonic_ms: ms,
    };
    discovery.set_offer(Some(offer(SPAN)), at(0)).unwrap();
    let first = discovery.publication(at(0)).unwrap().unwrap();
    assert_eq!(first.keys, [key_for(peer(1))]);
    discovery
        .set_offer(Some(offer(Share::Blocks(8..40))), at(100))
        .unwrap();
    discovery.published(true, at(200), &random);
    assert_eq!(discovery.publishes_in(at(200)), Some(5000));
    let second = discovery.publication(at(5200)).unwrap().unwrap();
    assert_eq!(second.keys.len(), 3, "blocks 8 to 39 touch three buckets");
    discovery.published(true, at(5300), &random);
    // The clock is set back by an hour: the next is newer all the same.
    let back = Now {
        unix_ms: NOW - 3_600_000,
        monotonic_ms: 200_000,
    };
    let third = discovery.publication(back).unwrap().unwrap();
    let sequence = |publication: &Publication, now| open(&publication.record, now).unwrap().sequence;
    assert!(sequence(&third, back.unix_ms) > sequence(&second, NOW));
}

#[test]
fn memory_is_bounded_whatever_is_sent() {
    let mut store = RecordStore::default();
    let long = Address::new(format!("/{}", "a".repeat(255))).unwrap();
    let mut refused = None;
    'full: for number in 0..100 {
        let pair = keypair(number);
        for model in 0..64 {
            let offer = Offer {
                model: ModelRoot([model; 32]),
                addresses: vec![long.clone(); MAX_ADDRESSES],
                ..offer(SPAN)
            };
            let record = Signed::sign(&pair, 1, NOW + 1000, &offer.to_bytes().unwrap()).unwrap();
            let key = keys_of(pair.peer_id(), offer.model, &SPAN)[0];
            if let Err(error) = store.put(pair.peer_id(), key, None, record.into_bytes(), NOW) {
                refused = Some(error);
                break 'full;
            }
        }
    }
    let what = "bytes of records";
    let limit = 8 << 20;
    assert_eq!(refused, Some(RecordError::Full { what, limit }));
    assert!((limit - 4096..=limit).contains(&store.size()), "{}", store.size());
    // When they have ended there is room again.
    let pair = keypair(500);
    assert_eq!(
        put(&mut store, &pair, record(&pair, 1, NOW + 5000), NOW + 2000),
        Ok(())
    );
    assert!(store.size() < 4096);
}
