//! Catalogues that lie, roll back, or cannot be reached.

use kwaainet_node::catalogue::{CatalogueError, check, sign, verify};
use kwaainet_node::{Deployment, KwaaiNetCore};
use kwaainet_testkit::{CATALOGUE_SECRET, CatalogueBuilder, catalogue_key};
use kwaainet_types::{Command, ErrorBody, ErrorCode, Origin, Reply, SignedCatalogue};

use crate::home::{ALL, Home, load, model_file, tell};

const URL: &str = "https://cdn.example/kwaai/models.json";

fn builder() -> CatalogueBuilder {
    CatalogueBuilder::default().model("m", &model_file(1, 1), &["models/m.gguf"])
}

fn json(signed: &SignedCatalogue) -> Vec<u8> {
    serde_json::to_vec(signed).unwrap()
}

fn models(node: &KwaaiNetCore) -> Result<usize, ErrorBody> {
    match tell(node, Origin::Site, Command::Models)? {
        Reply::Models { models } => Ok(models.len()),
        other => panic!("{other:?}"),
    }
}

fn online() -> Home {
    Home::new(Deployment {
        catalogue_url: Some(URL.to_owned()),
        catalogue_key: Some(catalogue_key()),
        catalogue: None,
    })
}

#[test]
fn what_was_signed_is_accepted_and_nothing_else() {
    let signed = builder().sign();
    assert_eq!(verify(&signed, &catalogue_key()).unwrap(), builder().catalogue);

    let mut changed = signed.clone();
    changed.catalogue = changed.catalogue.replace("Test model", "Best model");
    assert_eq!(verify(&changed, &catalogue_key()), Err(CatalogueError::Signature));

    // Signed by somebody else, and saying so.
    let foreign = sign(&builder().catalogue, &[8; 32]).unwrap();
    assert_eq!(verify(&foreign, &catalogue_key()), Err(CatalogueError::Signature));

    for signature in ["", "zz", &"00".repeat(64), &signed.signature[2..]] {
        let broken = SignedCatalogue {
            signature: signature.to_owned(),
            ..signed.clone()
        };
        assert_eq!(verify(&broken, &catalogue_key()), Err(CatalogueError::Signature));
    }

    // The domain is part of what is signed: the bare text's signature is not one.
    use ed25519_dalek::Signer as _;
    let bare = ed25519_dalek::SigningKey::from_bytes(&CATALOGUE_SECRET).sign(signed.catalogue.as_bytes());
    let bare = SignedCatalogue {
        signature: hex::encode(bare.to_bytes()),
        ..signed.clone()
    };
    assert_eq!(verify(&bare, &catalogue_key()), Err(CatalogueError::Signature));
}

#[test]
fn entries_that_contradict_themselves_are_refused_by_name() {
    type Change = fn(&mut CatalogueBuilder);
    let changes: [(Change, &str); 14] = [
        (|b| b.catalogue.version = 2, "version 2"),
        (|b| b.catalogue.models[0].id = "../m".into(), "an id has"),
        (|b| b.catalogue.models[0].id = ".m".into(), "an id has"),
        (|b| b.catalogue.models[0].name = String::new(), "name"),
        (|b| b.catalogue.models[0].bytes = 0, "0 bytes"),
        (|b| b.catalogue.models[0].bytes = u64::MAX, "bytes are not"),
        (|b| b.catalogue.models[0].bytes += 1 << 20, "chunks"),
        (|b| b.catalogue.models[0].context_length = 0, "context"),
        (
            |b| b.catalogue.models[0].chunk_hashes[0] = "xyz".into(),
            "hexadecimal",
        ),
        (|b| b.catalogue.models[0].chunk_hashes[0] = "00".repeat(32), "cid"),
        (|b| b.catalogue.models[0].cid = "bafy".into(), "cid"),
        (|b| b.catalogue.models[0].sources.clear(), "no source"),
        (
            |b| b.catalogue.models[0].sources = vec!["x".into(); 17],
            "sources",
        ),
        (
            |b| {
                let twin = b.catalogue.models[0].clone();
                b.catalogue.models.push(twin);
            },
            "twice",
        ),
    ];
    for (change, word) in changes {
        let mut bad = builder();
        change(&mut bad);
        let error = check(&bad.catalogue).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
        assert!(
            sign(&bad.catalogue, &CATALOGUE_SECRET).is_err(),
            "nobody should sign that"
        );
    }
    let mut crowd = builder();
    crowd.catalogue.models = vec![crowd.catalogue.models[0].clone(); 1001];
    assert!(matches!(
        check(&crowd.catalogue),
        Err(CatalogueError::Malformed(_))
    ));
}

#[test]
fn a_catalogue_without_a_key_to_check_it_is_not_trusted() {
    let home = Home::new(Deployment {
        catalogue_key: None,
        ..builder().deployment()
    });
    assert_eq!(
        models(&home.agreed(ALL)).unwrap_err().code,
        ErrorCode::CatalogueInvalid
    );
    assert_eq!(
        models(&Home::new(Deployment::default()).node()),
        Ok(0),
        "no catalogue, no models"
    );
}

#[test]
fn it_is_fetched_after_consent_only_and_its_relative_sources_lie_beside_it() {
    let home = online();
    home.http.serve(URL, json(&builder().sign()));
    home.http
        .serve("https://cdn.example/kwaai/models/m.gguf", model_file(1, 1));
    assert_eq!(models(&home.node()).unwrap_err().code, ErrorCode::ConsentRequired);
    assert!(home.http.requests().is_empty());
    let node = home.agreed(ALL);
    assert_eq!(models(&node), Ok(1));
    assert!(load(&node, "m").is_ok());
}

#[test]
fn an_older_edition_is_refused_and_the_kept_one_serves_without_network() {
    let home = online();
    let mut newer = builder();
    newer.catalogue.edition = 7;
    home.http.serve(URL, json(&newer.sign()));
    assert_eq!(models(&home.agreed(ALL)), Ok(1));

    home.http.serve(URL, json(&builder().sign()));
    let error = models(&home.node()).unwrap_err();
    assert_eq!(error.code, ErrorCode::CatalogueInvalid);
    assert!(
        error.message.contains("edition 1") && error.message.contains("edition 7"),
        "{}",
        error.message
    );

    home.http.cut_next(3);
    assert_eq!(
        models(&home.node()),
        Ok(1),
        "the edition seen before serves while the network is down"
    );
}

#[test]
fn nonsense_at_its_url_is_named() {
    let home = online();
    let node = home.agreed(ALL);
    let error = models(&node).unwrap_err();
    assert_eq!(
        (error.code, error.retryable),
        (ErrorCode::NetworkUnreachable, true)
    );
    home.http.serve(URL, b"<html>".to_vec());
    assert_eq!(models(&node).unwrap_err().code, ErrorCode::CatalogueInvalid);
    home.http
        .serve(URL, json(&sign(&builder().catalogue, &[9; 32]).unwrap()));
    assert_eq!(models(&node).unwrap_err().code, ErrorCode::CatalogueInvalid);
    // Put right, it is asked for again.
    home.http.serve(URL, json(&builder().sign()));
    assert_eq!(models(&node), Ok(1));
}
